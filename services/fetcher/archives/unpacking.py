"""Brings what is behind a URL to disk."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from tempfile import TemporaryFile
from typing import IO, Protocol

from services.fetcher.archives.formats import gunzip

_GZIP_MARK = b"\x1f\x8b"


class ByteSource(Protocol):
    """Where bytes come from."""

    def stream(
        self, url: str, *, max_bytes: int
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a URL, and give its body in pieces."""
        ...


async def fetch_to(file: IO[bytes], source: ByteSource, url: str, *, max_bytes: int) -> None:
    """Write what is behind a URL into a file.

    Raises:
        RefusedDownloadError: It fails every time.
        FailedDownloadError: It may work later.
    """
    async with source.stream(url, max_bytes=max_bytes) as pieces:
        async for piece in pieces:
            await asyncio.to_thread(file.write, piece)


def unzipped(file: IO[bytes], max_bytes: int) -> IO[bytes]:
    """Return a file as it is, or closed and replaced by what gzip made of it.

    Raises:
        ArchiveRefusedError: It is broken, or too large.
    """
    file.seek(0)
    if file.read(2) != _GZIP_MARK:
        return file
    room: IO[bytes] = TemporaryFile()  # noqa: SIM115  the caller closes it
    try:
        gunzip(file, room, max_bytes)
    except BaseException:
        room.close()
        raise
    file.close()
    return room
