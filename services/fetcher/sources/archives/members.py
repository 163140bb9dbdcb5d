"""Members of an archive, and the checks for accepting them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, Protocol

from services.common.domain.details import is_text
from services.fetcher.sources.errors import Rejection, UnreadableFileError, reject

MAX_NAME_LENGTH = 1000
"""Characters of a member's path, which becomes part of a URL."""
MAX_NAMES_LENGTH = 32 * 1024 * 1024
"""Characters of all paths together, which are in memory."""

FREE_BYTES = 64 * 1024 * 1024
"""Decompressed bytes allowed at any compression ratio."""
NAME_KEPT = MAX_NAME_LENGTH + 1
"""Characters read of a name, enough to detect that it is too long."""

_ARCHIVES = frozenset(
    {".zip", ".tar", ".tgz", ".gz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".7z", ".rar"}
)


class ArchiveRefusedError(UnreadableFileError):
    """The archive as a whole is refused."""

    code: Literal["archive_refused"] = "archive_refused"


@dataclass(frozen=True)
class ArchiveLimits:
    """Limits of an archive."""

    members: int
    decoded_bytes: int
    """All members together, after decompression."""
    ratio: int
    """Compression ratio of one member."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A member, as declared by the archive's directory."""

    name: str
    size: int
    """Declared bytes after decompression."""
    packed_size: int
    is_file: bool
    is_folder: bool = False
    is_encrypted: bool = False
    is_bounded: bool = True
    """Whether its compression is supported."""
    is_consistent: bool = True
    """Whether the archive's two headers of it agree."""
    is_deflated: bool = False
    header_bytes: int = 0
    """Of a tar: the header before the content."""
    content_at: int = 0
    """Offset of the content."""
    crc: int | None = None
    """CRC-32 of the content; None for a tar."""

    @property
    def is_readable(self) -> bool:
        """Whether its content can be read."""
        return self.is_bounded and self.is_consistent and not self.is_encrypted


class Archive(Protocol):
    """A container of readable members."""

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Return a member's content, or its first ``max_bytes`` + 1 bytes."""
        ...


def checked(entries: Iterable[Entry], limits: ArchiveLimits) -> Iterator[tuple[int, Entry]]:
    """Yield members with their index, from 1.

    Raises:
        ArchiveRefusedError: There are too many, or they are too large together.
    """
    decoded_bytes = names_length = 0
    for place, entry in enumerate(entries, start=1):
        if place > limits.members:
            raise too_many(limits)
        decoded_bytes += entry.header_bytes + entry.size
        if decoded_bytes > limits.decoded_bytes:
            detail = f"the archive holds more than {limits.decoded_bytes} bytes, decompressed"
            raise ArchiveRefusedError(detail)
        names_length += len(entry.name)
        if names_length > MAX_NAMES_LENGTH:
            raise ArchiveRefusedError("the paths of the archive's members are too long together")
        yield place, entry


OFFICE_CONTENTS = "[Content_Types].xml"
"""Member of each document of an office program (ECMA-376, part 2), which is a zip."""
OFFICE_REFUSED = "a document of an office program is not read: save a table as CSV, pages as PDF"


def too_many(limits: ArchiveLimits) -> ArchiveRefusedError:
    """Return the error of an archive with too many members."""
    return ArchiveRefusedError(f"the archive has more than {limits.members} members")


def refusal(place: int, entry: Entry, limits: ArchiveLimits) -> Rejection | None:
    """Return why a member is rejected, or None."""
    problem = _problem(entry, limits)
    return reject(place, entry.name, *problem) if problem else None


def _problem(entry: Entry, limits: ArchiveLimits) -> tuple[str, str] | None:
    path = PurePosixPath(entry.name)
    if not is_safe(entry.name):
        return "unsafe_path", "its path is absolute, leads upwards, or is not plain text"
    if not entry.is_file:
        return "not_a_file", "it is a link, a device or a sparse file"
    if not entry.is_readable:
        return _unreadable(entry)
    if path.suffix.lower() in _ARCHIVES:
        return "nested_archive", "nested archives are not opened"
    if entry.size > limits.ratio * max(entry.packed_size, 1):
        detail = f"its declared size is more than {limits.ratio} times its compressed size"
        return "suspicious_ratio", detail
    return None


def _unreadable(entry: Entry) -> tuple[str, str]:
    if entry.is_encrypted:
        return "encrypted_member", "it is encrypted"
    if not entry.is_consistent:
        return "inconsistent_member", "its header and the archive's directory disagree"
    return (
        "unsupported_compression",
        "unsupported compression: only stored and deflated members are read",
    )


def is_safe(name: str) -> bool:
    """Return whether a member's path stays within its archive."""
    return (
        0 < len(name) <= MAX_NAME_LENGTH
        and is_text(name)
        and name.replace(" ", "").isprintable()
        and "\\" not in name
        and ":" not in name.partition("/")[0][:2]
        and not name.startswith("/")
        and ".." not in name.split("/")
    )


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
