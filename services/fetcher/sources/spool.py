"""Files on disk that lists and archives pass through: without a name, and bounded together."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from tempfile import TemporaryFile
from typing import IO, Final
from weakref import WeakKeyDictionary

from services.common.download.errors import FailedDownloadError

NO_SPACE: Final = "no_space"
"""Code of what has no room on this machine's disk."""


class NoSpaceError(FailedDownloadError):
    """There is no room for a list or an archive on this machine's disk; it may pass."""

    def __init__(self, reason: str | None) -> None:
        super().__init__(NO_SPACE, f"it cannot be kept here for now: {reason}")


class Spool:
    """Makes files, and keeps them together within a limit; from any thread.

    A file that nobody holds any more is closed by itself, and does not count either: a thread may
    end, or write on, when whoever waited for it has gone.

    Args:
        max_bytes: Of all files at one time.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._taken: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def new_file(self) -> IO[bytes]:
        """Return a file, to be discarded.

        Raises:
            NoSpaceError: There is no space left.
        """
        with space_errors():
            file: IO[bytes] = TemporaryFile()  # noqa: SIM115  discard() closes it
        self.take(file, 0)
        return file

    @contextmanager
    def file(self) -> Iterator[IO[bytes]]:
        """Give a file for the length of a ``with`` block.

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
        """Have all of a file on disk, where others see it.

        Raises:
            NoSpaceError: There is no space left.
        """
        with space_errors():
            file.flush()

    def take(self, owner: object, size: int) -> None:
        """Count bytes that are somebody's, until they are given back.

        Raises:
            NoSpaceError: There would be too many.
        """
        with self._lock:
            if sum(self._taken.values()) + size > self._max_bytes:
                raise NoSpaceError("others have taken the room for lists and archives")
            self._taken[owner] = self._taken.get(owner, 0) + size

    def give_back(self, owner: object) -> None:
        """Forget what is somebody's."""
        with self._lock:
            self._taken.pop(owner, None)

    def discard(self, file: IO[bytes]) -> None:
        """Close a file; what it could not write is not missed."""
        with suppress(OSError):
            file.close()
        self.give_back(file)


@contextmanager
def space_errors() -> Iterator[None]:
    """Tell apart what this machine lacks from what is wrong with the content.

    Raises:
        NoSpaceError: The block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise NoSpaceError(error.strerror) from error
