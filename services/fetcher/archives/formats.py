"""Opens zip and tar files without believing what they say of themselves."""

import gzip
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import IO, cast

from services.fetcher.archives.members import Archive, ArchiveLimits, ArchiveRefusedError, Entry

BLOCK_BYTES = 1024 * 1024
_DIRECTORY_BYTES_A_MEMBER = 1200
"""Of a zip's directory: the fixed part, a long name, and extra fields."""
_END = b"PK\x05\x06"
_END_BYTES = 22
_MOST_COMMENT_BYTES = 65_535
_HEADER_BYTES = 1024 * 1024
"""Most that a tar's header may be long: names in PAX records are within it."""
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
        return TarArchive(file)
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
                name=info.orig_filename,
                size=info.file_size,
                packed_size=info.compress_size,
                is_file=kind in {0, 8},  # S_IFREG, or written where there are no kinds
                is_folder=info.is_dir(),
                is_encrypted=bool(info.flag_bits & 1),
            )

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Return a member's content, at most one byte more than ``max_bytes``.

        Raises:
            ArchiveRefusedError: There is no such member, or it cannot be read.
        """
        with _errors(), self._zip.open(name) as member:
            return member.read(max_bytes + 1)


class TarArchive:
    """A tar file, not compressed.

    Args:
        file: Its bytes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: dict[str, tuple[int, int]] | None = None

    def entries(self) -> Iterator[Entry]:
        """Yield its members, in their order."""
        self._file.seek(0)
        with _errors(), tarfile.open(fileobj=_short_reads(self._file), mode="r:") as tar:
            for info in tar:
                yield Entry(
                    name=info.name,
                    size=info.size,
                    packed_size=info.size,
                    is_file=info.isreg() and not info.issparse(),
                    is_folder=info.isdir(),
                )

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Return a member's content, at most one byte more than ``max_bytes``.

        Raises:
            ArchiveRefusedError: There is no such member.
        """
        if self._places is None:
            self._places = self._index()
        if name not in self._places:
            raise ArchiveRefusedError("the archive has no such member")
        at, size = self._places[name]
        self._file.seek(at)
        return self._file.read(min(size, max_bytes + 1))

    def _index(self) -> dict[str, tuple[int, int]]:
        self._file.seek(0)
        with _errors(), tarfile.open(fileobj=_short_reads(self._file), mode="r:") as tar:
            return {
                info.name: (info.offset_data, info.size)
                for info in tar
                if info.isreg() and not info.issparse()
            }


class _ShortReads:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _HEADER_BYTES:
            raise tarfile.ReadError("a header is too long")
        return self._file.read(size)


def _short_reads(file: IO[bytes]) -> IO[bytes]:
    """Return a view of a tar whose headers are short: one of gigabytes would be read whole."""
    return cast("IO[bytes]", _ShortReads(file))


def gunzip(file: IO[bytes], room: IO[bytes], max_bytes: int) -> None:
    """Write what gzip made of a file.

    Raises:
        ArchiveRefusedError: It is broken, or more than ``max_bytes``.
    """
    file.seek(0)
    size = 0
    with _errors(), gzip.GzipFile(fileobj=file, mode="rb") as source:
        while block := source.read(BLOCK_BYTES):
            size += len(block)
            if size > max_bytes:
                raise ArchiveRefusedError(f"the archive holds more than {max_bytes} bytes")
            room.write(block)


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
        gzip.BadGzipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        UnicodeError,
        ValueError,
        OverflowError,
        OSError,
    ) as error:
        raise ArchiveRefusedError(f"the archive is broken: {error}"[:300]) from error
