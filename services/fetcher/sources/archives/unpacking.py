"""Download URLs to disk, and decompress untrusted gzip files (RFC 1952)."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import IO, Protocol

from services.common.download.errors import FailedDownloadError
from services.common.download.responses import DEAD_HOST_ATTEMPTS
from services.common.runtime.stoppable import Stop
from services.fetcher.sources.archives.formats import SNIFFED_BYTES
from services.fetcher.sources.archives.members import ArchiveLimits, ArchiveRefusedError
from services.fetcher.sources.lists.rows import MalformedListError
from services.fetcher.sources.spool import Spool

FREE_BYTES = 64 * 1024 * 1024
"""Decompressed bytes allowed at any compression ratio."""
PIECE_BYTES = 1024 * 1024
_PACKED_BYTES = 64 * 1024
_GZIP_BITS = 31
_MEMBERS = 10_000
_BYTES_A_MEMBER = 1024
"""Beyond 10,000 members, on average: millions of empty ones would take minutes."""
_MARK = b"\x1f\x8b"


class GzipError(MalformedListError):
    """It is no whole gzip file."""


class ByteSource(Protocol):
    """A source of downloads."""

    def stream(
        self, url: str, *, max_bytes: int
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a URL and stream its body."""
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
    """Download a URL into a file of the spool.

    Raises:
        RefusedDownloadError: Permanent failure.
        FailedDownloadError: Transient failure, including a timeout or a full spool.
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
        detail = f"download incomplete after {timeout_seconds:g} s"
        raise FailedDownloadError("timeout", detail, most_attempts=DEAD_HOST_ATTEMPTS) from error


def check_size(size: int, packed_bytes: int, limits: ArchiveLimits) -> None:
    """Refuse an archive that decompresses to too much.

    Raises:
        ArchiveRefusedError: Size or compression ratio is too large.
    """
    if size > limits.decoded_bytes:
        detail = f"the archive holds more than {limits.decoded_bytes} bytes, decompressed"
        raise ArchiveRefusedError(detail)
    if size > max(FREE_BYTES, limits.ratio * packed_bytes):
        detail = f"the archive decompresses to more than {limits.ratio} times its bytes"
        raise ArchiveRefusedError(detail)


def is_gzip(file: IO[bytes]) -> bool:
    """Return whether a file says that it is compressed by gzip; it is left at its beginning."""
    file.seek(0)
    mark = file.read(len(_MARK))
    file.seek(0)
    return mark == _MARK


def gunzipped(file: IO[bytes]) -> Iterator[bytes]:
    """Yield what a gzip file decompresses to, in pieces of 1 MiB at most, which may be empty.

    Raises:
        GzipError: It is broken or cut short, or has too many members.
    """
    file.seek(0)
    inflate, members, taken_bytes, packed = None, 0, 0, b""
    while packed or (packed := file.read(_PACKED_BYTES)):
        if inflate is None:
            packed = packed.lstrip(b"\0") if members else packed  # a tape's last block is filled up
            if not packed:
                continue
            inflate, members = zlib.decompressobj(_GZIP_BITS), members + 1
            if members > _MEMBERS + taken_bytes // _BYTES_A_MEMBER:
                raise GzipError("the gzip file consists of too many small parts")
        try:
            yield inflate.decompress(packed, PIECE_BYTES)
        except zlib.error as error:
            raise GzipError(f"not a whole gzip file: {error}") from error
        left = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
        taken_bytes += len(packed) - len(left)
        packed, inflate = left, None if inflate.eof else inflate
    if inflate is not None or not members:
        raise GzipError("not a whole gzip file: it is cut short")


def unzipped(
    file: IO[bytes], spool: Spool, check: Callable[[bytes, int], None], stop: Stop | None = None
) -> IO[bytes]:
    """Return a file, decompressed into another one if it is gzip.

    Args:
        file: Stays open.
        spool: Of the other file.
        check: Called with the first bytes and the size so far; raises to refuse it.
        stop: Cancels the work.

    Raises:
        GzipError: It is corrupt.
        FailedDownloadError: The disk is full.
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
