"""Opens zip and tar files without believing what they say of themselves."""

import errno
import gzip
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import IO, cast

from services.fetcher.archives.members import (
    MAX_NAME_LENGTH,
    Archive,
    ArchiveLimits,
    ArchiveRefusedError,
    Entry,
    checked,
)

BLOCK_BYTES = 1024 * 1024
_DIRECTORY_BYTES_A_MEMBER = 1200
"""Of a zip's directory: the fixed part, a long name, and extra fields."""
_END = b"PK\x05\x06"
_END_BYTES = 22
_MOST_COMMENT_BYTES = 65_535
_HEADER_BYTES = 1024 * 1024
"""Most before the content of a tar's member: PAX records and maps of holes are read whole."""
_NAME_KEPT = MAX_NAME_LENGTH + 1
"""Characters that show that a name is too long: in a tar it may have a million."""
_BOUNDED = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""Of the others zipfile decompresses all that it has read, however little was asked for."""
_TAR_MARK_AT = 257


class ArchiveFormat(StrEnum):
    """How an archive is written."""

    ZIP = "zip"
    TAR = "tar"


def sniff_archive(start: bytes) -> ArchiveFormat | None:
    """Return the format of an archive by its first 512 bytes, or None; gzip is undone already."""
    if start.startswith((b"PK\x03\x04", _END)):
        return ArchiveFormat.ZIP
    if start[_TAR_MARK_AT:].startswith(b"ustar"):
        return ArchiveFormat.TAR
    return None


def open_archive(file: IO[bytes], limits: ArchiveLimits) -> Archive:
    """Open an archive, or what gzip made of one; the caller closes the file.

    Raises:
        ArchiveRefusedError: It is none, or broken, or too much; also while it is read.
    """
    file.seek(0)
    found = sniff_archive(file.read(512))
    if found is ArchiveFormat.ZIP:
        return ZipArchive(file, limits)
    if found is ArchiveFormat.TAR:
        return TarArchive(file, limits)
    raise ArchiveRefusedError("neither a zip nor a tar file")


class ZipArchive:
    """A zip file.

    Args:
        file: Its bytes.
        limits: Bound its directory, which is read whole.
    """

    def __init__(self, file: IO[bytes], limits: ArchiveLimits) -> None:
        _check_directory(file, limits.members * _DIRECTORY_BYTES_A_MEMBER)
        with _errors():
            self._zip = zipfile.ZipFile(file)

    def entries(self) -> Iterator[Entry]:
        """Yield its members, in the order of its directory."""
        for info in self._zip.infolist():
            kind = info.external_attr >> 28
            yield Entry(
                name=info.orig_filename[:_NAME_KEPT],
                size=info.file_size,
                packed_size=info.compress_size,
                is_file=kind in {0, 8},  # S_IFREG, or written where there are no kinds
                is_folder=info.is_dir(),
                is_encrypted=bool(info.flag_bits & 1),
                is_bounded=info.compress_type in _BOUNDED,
            )

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Return a member's content, at most one byte more than ``max_bytes``.

        Raises:
            ArchiveRefusedError: There is no such member, or it cannot be read.
        """
        with _errors():
            info = self._zip.getinfo(name)
            if info.compress_type not in _BOUNDED:
                raise ArchiveRefusedError("the member is neither stored nor deflated")
            with self._zip.open(info) as member:
                return member.read(max_bytes + 1)


class TarArchive:
    """A tar file, not compressed.

    Args:
        file: Its bytes.
        limits: Bound its members, whose places are kept.
    """

    def __init__(self, file: IO[bytes], limits: ArchiveLimits) -> None:
        self._file = file
        self._limits = limits
        self._places: dict[str, tuple[int, int]] | None = None
        self._reading = threading.Lock()  # who gave up waiting leaves a thread that still reads

    def entries(self) -> Iterator[Entry]:
        """Yield its members, in their order."""
        self._file.seek(0)
        headers = _Headers(self._file)
        with _errors(), tarfile.open(fileobj=cast("IO[bytes]", headers), mode="r:") as tar:
            while (info := tar.next()) is not None:
                yield Entry(
                    name=info.name[:_NAME_KEPT],
                    size=info.size,
                    packed_size=info.size,
                    is_file=info.isreg() and not info.issparse(),
                    is_folder=info.isdir(),
                    header_bytes=headers.taken_bytes,
                    content_at=info.offset_data,
                )
                vars(tar)["members"].clear()  # it would keep them all
                tar.pax_headers = {}  # copied for each member
                headers.taken_bytes = 0

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Return a member's content, at most one byte more than ``max_bytes``; from any thread.

        Raises:
            ArchiveRefusedError: There is no such member.
        """
        with self._reading:
            if self._places is None:
                self._places = self._index()
            if name not in self._places:
                raise ArchiveRefusedError("the archive has no such member")
            at, size = self._places[name]
            self._file.seek(at)
            return self._file.read(min(size, max_bytes + 1))

    def _index(self) -> dict[str, tuple[int, int]]:
        return {
            entry.name: (entry.content_at, entry.size)
            for _, entry in checked(self.entries(), self._limits)
            if entry.is_file
        }


class _Headers:
    """A view of a tar that ends where a member's header is too long: it would be read whole."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell
        self.taken_bytes = 0
        """Since it was set to 0."""

    def read(self, size: int = -1) -> bytes:
        self.taken_bytes += size
        if size < 0 or self.taken_bytes > _HEADER_BYTES:
            raise tarfile.ReadError("a header is too long")
        return self._file.read(size)


def gunzipped(file: IO[bytes]) -> Iterator[bytes]:
    """Yield what gzip made of a file, in pieces.

    Raises:
        ArchiveRefusedError: It is broken.
    """
    file.seek(0)
    with _errors(), gzip.GzipFile(fileobj=file, mode="rb") as source:
        while block := source.read(BLOCK_BYTES):
            yield block


def check_size(size: int, max_bytes: int) -> None:
    """Raise ArchiveRefusedError where an archive, its gzip undone, is more than ``max_bytes``."""
    if size > max_bytes:
        raise ArchiveRefusedError(f"the archive holds more than {max_bytes} bytes")


def _check_directory(file: IO[bytes], max_bytes: int) -> None:
    """Refuse a zip whose directory would fill the memory (APPNOTE.TXT 4.3.14 to 4.3.16)."""
    size = file.seek(0, 2)
    tail_at = max(0, size - _END_BYTES - _MOST_COMMENT_BYTES)
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + _END_BYTES:
        raise ArchiveRefusedError("the zip file has no end")
    (directory_bytes,) = struct.unpack_from("<L", tail, at + 12)
    if directory_bytes == 0xFFFFFFFF and at >= 20:
        (end64_at,) = struct.unpack_from("<Q", tail, at - 12)
        if end64_at + 48 <= size:
            file.seek(end64_at)
            (directory_bytes,) = struct.unpack_from("<Q", file.read(48), 40)
    if directory_bytes > max_bytes:
        raise ArchiveRefusedError("the zip file's directory is too large")


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except KeyError as error:
        raise ArchiveRefusedError("the archive has no such member") from error
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        UnicodeError,
        ValueError,
        OverflowError,
    ) as error:
        raise _broken(error) from error
    except OSError as error:
        if error.errno not in {None, errno.EINVAL}:  # gzip's own, and a place before the start
            raise
        raise _broken(error) from error


def _broken(error: Exception) -> ArchiveRefusedError:
    return ArchiveRefusedError(f"the archive is broken: {error}"[:300])
