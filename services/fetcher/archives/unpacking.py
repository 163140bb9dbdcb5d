"""Brings what is behind a URL to disk."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from tempfile import TemporaryFile
from typing import IO, Protocol

from services.common.download.answers import DEAD_HOST_ATTEMPTS
from services.common.download.errors import FailedDownloadError
from services.fetcher.archives.formats import gunzipped

NO_SPACE = "no_space"
"""Code of what has no room on this machine's disk."""

_GZIP_MARK = b"\x1f\x8b"


class ByteSource(Protocol):
    """Where bytes come from."""

    def stream(
        self, url: str, *, max_bytes: int
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a URL, and give its body in pieces."""
        ...


def new_file() -> IO[bytes]:
    """Return a file without a name, to be discarded.

    Raises:
        FailedDownloadError: There is no space left.
    """
    with _space():
        return TemporaryFile()


def discard(file: IO[bytes]) -> None:
    """Close a file; what it could not write is not missed."""
    with suppress(OSError):
        file.close()


async def fetch_to(
    file: IO[bytes], source: ByteSource, url: str, *, max_bytes: int, timeout_seconds: float
) -> None:
    """Write what is behind a URL into a file.

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
                await asyncio.to_thread(_write, file, piece)
            await asyncio.to_thread(_flush, file)
    except TimeoutError as error:
        detail = f"not whole after {timeout_seconds:g} s"
        raise FailedDownloadError("timeout", detail, most_attempts=DEAD_HOST_ATTEMPTS) from error


def unzipped(file: IO[bytes], max_bytes: int) -> IO[bytes]:
    """Return a file as it is, or closed and replaced by what gzip made of it.

    Raises:
        ArchiveRefusedError: It is broken, or too large.
        FailedDownloadError: There is no space left.
    """
    file.seek(0)
    if file.read(2) != _GZIP_MARK:
        return file
    room = new_file()
    try:
        for block in gunzipped(file, max_bytes):
            _write(room, block)
        _flush(room)
    except BaseException:
        discard(room)
        raise
    discard(file)
    return room


def _write(file: IO[bytes], content: bytes) -> None:
    with _space():
        file.write(content)


def _flush(file: IO[bytes]) -> None:
    with _space():
        file.flush()


@contextmanager
def _space() -> Iterator[None]:
    """Tell apart what this machine lacks from what is wrong with the content."""
    try:
        yield
    except OSError as error:
        detail = f"it cannot be kept here for now: {error.strerror}"
        raise FailedDownloadError(NO_SPACE, detail) from error
