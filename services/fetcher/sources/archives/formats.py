"""Formats of archives, parsed as untrusted input.

The cost is bounded; additionally the fetcher runs it in a child process (``opening.py``).
"""

from collections.abc import Iterator
from io import BytesIO
from typing import IO

from services.common.domain.tables.list_format import ArchiveFormat, sniff_archive
from services.fetcher.sources.archives.contents import MemberReader, index_records
from services.fetcher.sources.archives.members import ArchiveLimits, ArchiveRefusedError, Entry
from services.fetcher.sources.archives.tar_headers import tar_entries
from services.fetcher.sources.archives.zip_directory import zip_entries
from services.fetcher.sources.spool import SNIFFED_BYTES


class OpenArchive:
    """A decompressed archive.

    Args:
        file: Its bytes; the caller closes it.
        limits: Of its members.
    """

    def __init__(self, file: IO[bytes], limits: ArchiveLimits) -> None:
        self._file = file
        self._limits = limits
        self._reader: MemberReader | None = None

    def entries(self) -> Iterator[Entry]:
        """Yield its members in order.

        Raises:
            ArchiveRefusedError: It is invalid, or exceeds a limit.
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
            ArchiveRefusedError: It is invalid, or exceeds a limit.
        """
        return index_records(self.entries(), self._limits)

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Return a member's content, or its first ``max_bytes`` + 1 bytes.

        Raises:
            ArchiveRefusedError: The member does not exist or can't be read.
        """
        if self._reader is None:
            self._reader = MemberReader(self._file, BytesIO(b"".join(self.index())))
        return self._reader.read(name, max_bytes=max_bytes)
