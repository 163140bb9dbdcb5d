"""What an archive holds, and which of it is taken."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, Protocol

from services.fetcher.sources.lists.rows import MalformedListError, Rejection, is_text, reject

MAX_NAME_LENGTH = 1000
"""Characters of a member's path: it becomes part of a URL."""
MAX_NAMES_LENGTH = 32 * 1024 * 1024
"""Characters of all paths together: they are in memory at once."""

NAME_KEPT = MAX_NAME_LENGTH + 1
"""Characters that show that a name is too long: an archive may have one of any length."""

_ARCHIVES = frozenset(
    {".zip", ".tar", ".tgz", ".gz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".7z", ".rar"}
)


class ArchiveRefusedError(MalformedListError):
    """The archive as a whole is not taken."""

    code: Literal["archive_refused"] = "archive_refused"


@dataclass(frozen=True)
class ArchiveLimits:
    """How much an archive may hold."""

    members: int
    decoded_bytes: int
    """All members together, after decompression."""
    ratio: int
    """Decoded bytes by bytes of the archive, of one member."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A member as the archive's directory says."""

    name: str
    size: int
    """Bytes after decompression, as claimed."""
    packed_size: int
    is_file: bool
    is_folder: bool = False
    is_encrypted: bool = False
    is_bounded: bool = True
    """Whether its compression is one that can be undone in pieces."""
    is_consistent: bool = True
    """Whether what two places of the archive say of it is the same."""
    is_deflated: bool = False
    header_bytes: int = 0
    """Of a tar: what comes before the content."""
    content_at: int = 0
    """Where the content begins."""
    crc: int | None = None
    """CRC-32 of the content; None: a tar has none."""

    @property
    def is_readable(self) -> bool:
        """Whether its content can be had."""
        return self.is_bounded and self.is_consistent and not self.is_encrypted


class Archive(Protocol):
    """Whatever has members that can be read."""

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Return a member's content: the whole, or the first ``max_bytes`` + 1 bytes."""
        ...


def checked(entries: Iterable[Entry], limits: ArchiveLimits) -> Iterator[tuple[int, Entry]]:
    """Yield members with their place, from 1.

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


def too_many(limits: ArchiveLimits) -> ArchiveRefusedError:
    """Describe an archive of too many members."""
    return ArchiveRefusedError(f"the archive has more than {limits.members} members")


def refusal(place: int, entry: Entry, limits: ArchiveLimits) -> Rejection | None:
    """Say why a member is not taken, or return None."""
    problem = _problem(entry, limits)
    return reject(place, entry.name, *problem) if problem else None


def _problem(entry: Entry, limits: ArchiveLimits) -> tuple[str, str] | None:
    path = PurePosixPath(entry.name)
    if not is_safe(entry.name):
        return "unsafe_path", "its path is absolute, leads upwards, or is no plain text"
    if not entry.is_file:
        return "not_a_file", "it is a link, a device or a sparse file"
    if not entry.is_readable:
        return _unreadable(entry)
    if path.suffix.lower() in _ARCHIVES:
        return "nested_archive", "an archive within an archive is not opened"
    if entry.size > limits.ratio * max(entry.packed_size, 1):
        detail = f"it claims more than {limits.ratio} times the bytes that it has in the archive"
        return "suspicious_ratio", detail
    return None


def _unreadable(entry: Entry) -> tuple[str, str]:
    if entry.is_encrypted:
        return "encrypted_member", "it is encrypted"
    if not entry.is_consistent:
        return "inconsistent_member", "its header and the archive's directory disagree"
    return "unsupported_compression", "only members that are stored or deflated are read"


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
