"""The formats of archives, read without believing what they say of themselves.

What this costs is bounded; even so the fetcher runs it in a child process (``opening.py``).
"""

from collections.abc import Iterator
from enum import StrEnum
from io import BytesIO
from typing import IO

from services.fetcher.sources.archives.contents import MemberReader, index_records
from services.fetcher.sources.archives.members import ArchiveLimits, ArchiveRefusedError, Entry
from services.fetcher.sources.archives.tar_headers import tar_entries
from services.fetcher.sources.archives.zip_directory import zip_entries

SNIFFED_BYTES = 512
_ZIP_MARKS = (b"PK\x03\x04", b"PK\x05\x06")
_TAR_MARK_AT = 257


class ArchiveFormat(StrEnum):
    """How an archive is written."""

    ZIP = "zip"
    TAR = "tar"


def sniff_archive(start: bytes) -> ArchiveFormat | None:
    """Return the format of an archive by its first 512 bytes, or None; gzip is undone already."""
    if start.startswith(_ZIP_MARKS):
        return ArchiveFormat.ZIP
    if start[_TAR_MARK_AT:].startswith(b"ustar"):
        return ArchiveFormat.TAR
    return None


class OpenArchive:
    """An archive, or what gzip made of one.

    Args:
        file: Its bytes; the caller closes it.
        limits: Of its members.
    """

    def __init__(self, file: IO[bytes], limits: ArchiveLimits) -> None:
        self._file = file
        self._limits = limits
        self._reader: MemberReader | None = None

    def entries(self) -> Iterator[Entry]:
        """Yield its members, in its order.

        Raises:
            ArchiveRefusedError: It is none, or broken, or too much.
        """
        self._file.seek(0)
        match sniff_archive(self._file.read(SNIFFED_BYTES)):
            case ArchiveFormat.ZIP:
                return zip_entries(self._file, self._limits)
            case ArchiveFormat.TAR:
                return tar_entries(self._file)
            case None:
                raise ArchiveRefusedError("neither a zip nor a tar file")

    def index(self) -> Iterator[bytes]:
        """Yield the records of its index.

        Raises:
            ArchiveRefusedError: It is none, or broken, or too much.
        """
        return index_records(self.entries(), self._limits)

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Return a member's content: the whole, or the first ``max_bytes`` + 1 bytes.

        Raises:
            ArchiveRefusedError: There is no such member, or it cannot be read.
        """
        if self._reader is None:
            self._reader = MemberReader(self._file, BytesIO(b"".join(self.index())))
        return self._reader.read(name, max_bytes=max_bytes)


def open_archive(file: IO[bytes], limits: ArchiveLimits) -> OpenArchive:
    """Open an archive; its format is found when its members are asked for."""
    return OpenArchive(file, limits)
