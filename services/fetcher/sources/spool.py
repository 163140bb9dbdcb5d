"""Spool: unnamed temporary files of lists and archives, with a common size limit."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from tempfile import TemporaryFile
from typing import IO, Final
from weakref import WeakKeyDictionary

from services.common.download.errors import FailedDownloadError

NO_SPACE: Final = "no_space"
"""Code of a full spool or disk."""


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
