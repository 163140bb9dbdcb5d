"""Spool: unnamed temporary files of lists and archives, with a common size limit.

Untrusted gzip files (RFC 1952) are decompressed from one into another, in a thread that ends early
when its caller is cancelled.
"""

import asyncio
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from tempfile import TemporaryFile
from typing import IO, Final, TypeVar
from weakref import WeakKeyDictionary

from services.common.domain.errors import TransientError
from services.common.download.errors import FailedDownloadError
from services.fetcher.sources.errors import MalformedListError, UnreadableFileError

T = TypeVar("T")

NO_SPACE: Final = "no_space"
"""Code of a full spool or disk."""
SNIFFED_BYTES = 512
"""First (decompressed) bytes, by which files are told apart."""
PIECE_BYTES = 1024 * 1024
_PACKED_BYTES = 64 * 1024
_GZIP_BITS = 31
_MEMBERS = 10_000
_BYTES_A_MEMBER = 1024
"""Beyond 10,000 members, on average: millions of empty ones would take minutes."""
_MARK = b"\x1f\x8b"


class NoSpaceError(FailedDownloadError):
    """The spool or the disk is full; transient."""

    def __init__(self, reason: str | None) -> None:
        super().__init__(NO_SPACE, f"no space: {reason}")


class Spool:
    """Creates files within a common size limit (thread-safe).

    Unreferenced files are closed and no longer count, as threads may outlive their cancelled
    callers.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._taken: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def new_file(self) -> IO[bytes]:
        """Create a file, to be closed by ``discard``.

        Raises:
            NoSpaceError: There is no space left.
        """
        with space_errors():
            file: IO[bytes] = TemporaryFile()  # noqa: SIM115  discard() closes it
        self.take(file, 0)
        return file

    @contextmanager
    def file(self) -> Iterator[IO[bytes]]:
        """Yield a file for a ``with`` block.

        Raises:
            NoSpaceError: There is no space left.
        """
        file = self.new_file()
        try:
            yield file
        finally:
            self.discard(file)

    def write(self, file: IO[bytes], content: bytes) -> None:
        """Append to a file.

        Raises:
            NoSpaceError: There is no space left.
        """
        self.take(file, len(content))
        with space_errors():
            file.write(content)

    def flush(self, file: IO[bytes]) -> None:
        """Flush a file to disk.

        Raises:
            NoSpaceError: There is no space left.
        """
        with space_errors():
            file.flush()

    def take(self, owner: object, size: int) -> None:
        """Reserve bytes for an owner.

        Raises:
            NoSpaceError: The limit is exceeded.
        """
        with self._lock:
            if sum(self._taken.values()) + size > self._max_bytes:
                raise NoSpaceError("spool limit reached (FETCHER_MAX_SPOOL_BYTES)")
            self._taken[owner] = self._taken.get(owner, 0) + size

    def give_back(self, owner: object) -> None:
        """Release an owner's bytes."""
        with self._lock:
            self._taken.pop(owner, None)

    def discard(self, file: IO[bytes]) -> None:
        """Close a file, ignoring write errors."""
        with suppress(OSError):
            file.close()
        self.give_back(file)


@contextmanager
def space_errors() -> Iterator[None]:
    """Translate OSError, so that a full disk is not taken for bad content.

    Raises:
        NoSpaceError: The block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise NoSpaceError(error.strerror) from error


class WorkStoppedError(TransientError):
    """The work was cancelled."""

    code = "stopped"


class Stop:
    """Cancels work in another thread, by a flag or by interrupting a blocking call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._action: Callable[[], object] | None = None

    def set(self) -> None:
        """Request cancellation."""
        with self._lock:
            self._is_set = True
            if self._action is not None:
                self._action()

    def check(self) -> None:
        """Raise WorkStoppedError if cancelled; call it regularly."""
        if self._is_set:
            raise WorkStoppedError("cancelled")

    @contextmanager
    def calling(self, action: Callable[[], object]) -> Iterator[None]:
        """Call ``action`` on cancellation inside this block."""
        with self._lock:
            self.check()
            self._action = action
        try:
            yield
        finally:
            with self._lock:
                self._action = None


async def run_stoppable(executor: Executor, work: Callable[[Stop], T]) -> T:
    """Run work in a thread of ``executor``; forward cancellation to it."""
    stop = Stop()
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, work, stop)
    finally:
        stop.set()


class GzipError(UnreadableFileError):
    """It is no whole gzip file."""

    code = MalformedListError.code


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
