"""Brings what is behind a URL to disk."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import IO, Protocol

from services.common.download.client import Download
from services.common.download.errors import FailedDownloadError
from services.common.download.headers import Validators
from services.common.download.responses import DEAD_HOST_ATTEMPTS
from services.common.runtime.stoppable import Stop
from services.fetcher.sources.archives.formats import SNIFFED_BYTES
from services.fetcher.sources.archives.members import ArchiveLimits, ArchiveRefusedError
from services.fetcher.sources.gunzip import gunzipped, is_gzip
from services.fetcher.sources.spool import Spool

FREE_BYTES = 64 * 1024 * 1024
"""Up to so many, any gzip may decompress to."""


class ByteSource(Protocol):
    """Where bytes come from."""

    def stream(
        self, url: str, *, max_bytes: int
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a URL, and give its body in pieces."""
        ...


class Source(ByteSource, Protocol):
    """The same, whole."""

    async def get(self, url: str, *, validators: Validators | None = None) -> Download:
        """Return the content of a URL."""
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


def check_size(size: int, packed_bytes: int, limits: ArchiveLimits) -> None:
    """Refuse an archive that decompresses to too much.

    Args:
        size: Bytes so far.
        packed_bytes: Of its file.
        limits: Of the archive.

    Raises:
        ArchiveRefusedError: It is too large, whole or for its file.
    """
    if size > limits.decoded_bytes:
        detail = f"the archive holds more than {limits.decoded_bytes} bytes, decompressed"
        raise ArchiveRefusedError(detail)
    if size > max(FREE_BYTES, limits.ratio * packed_bytes):
        detail = f"the archive decompresses to more than {limits.ratio} times its bytes"
        raise ArchiveRefusedError(detail)


def unzipped(
    file: IO[bytes], spool: Spool, check: Callable[[bytes, int], None], stop: Stop | None = None
) -> IO[bytes]:
    """Return a file as it is, or another one with what gzip made of it.

    Args:
        file: Stays open.
        spool: Where the other file goes.
        check: Given the beginning and the size so far of what comes out; raises to refuse it.
        stop: Ends this early.

    Raises:
        GzipError: It is broken.
        FailedDownloadError: There is no space left.
        WorkStoppedError: ``stop`` was set.
    """
    if not is_gzip(file):
        return file
    room = spool.new_file()
    size, start = 0, b""
    try:
        for block in gunzipped(file):
            if stop is not None:
                stop.check()
            start = start if len(start) >= SNIFFED_BYTES else start + block
            size += len(block)
            check(start, size)
            spool.write(room, block)
        spool.flush(room)
    except BaseException:
        spool.discard(room)
        raise
    return room
