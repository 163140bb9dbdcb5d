"""Brings what is behind a URL to disk."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import IO, Protocol

from services.common.download.answers import DEAD_HOST_ATTEMPTS
from services.common.download.errors import FailedDownloadError
from services.fetcher.archives.formats import gunzipped
from services.fetcher.spool import Spool

_GZIP_MARK = b"\x1f\x8b"


class ByteSource(Protocol):
    """Where bytes come from."""

    def stream(
        self, url: str, *, max_bytes: int
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a URL, and give its body in pieces."""
        ...


async def fetch_to(
    file: IO[bytes],
    source: ByteSource,
    url: str,
    *,
    spool: Spool,
    max_bytes: int,
    timeout_seconds: float,
) -> None:
    """Write what is behind a URL into a file of the spool.

    Raises:
        RefusedDownloadError: It fails every time.
        FailedDownloadError: It may work later: also where it takes too long, or has no space here.
    """
    try:
        async with (
            asyncio.timeout(timeout_seconds),
            source.stream(url, max_bytes=max_bytes) as pieces,
        ):
            async for piece in pieces:
                await asyncio.to_thread(spool.write, file, piece)
            await asyncio.to_thread(spool.flush, file)
    except TimeoutError as error:
        detail = f"not whole after {timeout_seconds:g} s"
        raise FailedDownloadError("timeout", detail, most_attempts=DEAD_HOST_ATTEMPTS) from error


def is_gzip(file: IO[bytes]) -> bool:
    """Return whether a file says that it is compressed by gzip; it is left at its beginning."""
    file.seek(0)
    mark = file.read(len(_GZIP_MARK))
    file.seek(0)
    return mark == _GZIP_MARK


def unzipped(file: IO[bytes], spool: Spool, check: Callable[[bytes, int], None]) -> IO[bytes]:
    """Return a file as it is, or discarded and replaced by what gzip made of it.

    Args:
        file: Of the spool.
        spool: Where the other file goes.
        check: Given the beginning and the size so far of what comes out; raises to refuse it.

    Raises:
        ArchiveRefusedError: It is broken.
        FailedDownloadError: There is no space left.
    """
    if not is_gzip(file):
        return file
    room = spool.new_file()
    size, start = 0, b""
    try:
        for block in gunzipped(file):
            start = start or block
            size += len(block)
            check(start, size)
            spool.write(room, block)
        spool.flush(room)
    except BaseException:
        spool.discard(room)
        raise
    spool.discard(file)
    return room
