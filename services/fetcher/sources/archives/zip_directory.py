"""Parse the directory of a zip (APPNOTE.TXT 6.3.10), with untrusted counts and offsets.

zipfile reads a directory of any size into objects of some 360 bytes per entry before a limit can be
applied, and with a zip64 record other sizes than in the end record.
"""

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import IO, NamedTuple

from services.fetcher.sources.archives.members import (
    NAME_KEPT,
    OFFICE_CONTENTS,
    OFFICE_REFUSED,
    ArchiveLimits,
    ArchiveRefusedError,
    Entry,
    too_many,
)

_END = struct.Struct("<4sHHHHLLH")
_END64 = struct.Struct("<4sQHHLLQQQQ")
_LOCATOR = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4sHHHHHHLLLHHHHHLL")
_LOCAL = struct.Struct("<4sHHHHHLLLHH")
_END_MARK, _END64_MARK, _LOCATOR_MARK = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_ENTRY_MARK, _LOCAL_MARK = b"PK\1\2", b"PK\3\4"
_MAX_COMMENT_BYTES = 0xFFFF
_END64_REST = _END64.size - 12
"""Declared size of a zip64 end record without extensible data."""
_NAMES_BYTES = 64 * 1024 * 1024
"""Limit of names, extra fields and comments of a directory together."""
_UTF8, _ENCRYPTED, _HAS_DESCRIPTOR = 1 << 11, 1 << 0, 1 << 3
_STORED, _DEFLATED = 0, 8
_PACKING_BYTES = 1024
"""Allowed growth of compressed content, beside twice its size."""
_ZIP64_FIELD = 1
_16, _32 = 0xFFFF, 0xFFFF_FFFF
"""Marker of a number that is in a zip64 record or field."""


@dataclass(frozen=True)
class _Directory:
    at: int
    size: int
    entries: int


class _Header(NamedTuple):
    """A raw entry of the directory."""

    mark: bytes
    made_by: int
    version: int
    flags: int
    method: int
    time: int
    date: int
    crc: int
    packed_size: int
    size: int
    name_bytes: int
    extra_bytes: int
    comment_bytes: int
    disk: int
    attributes: int
    external_attributes: int
    local_at: int


def zip_entries(file: IO[bytes], limits: ArchiveLimits) -> Iterator[Entry]:
    """Yield the members of a zip in the order of its directory.

    Raises:
        ArchiveRefusedError: It is corrupt, its records disagree, it has too many members, or they
            overlap (detected after the last member), or it is an office program's document.
    """
    directory = _find_directory(file)
    if directory.entries > limits.members:
        raise too_many(limits)
    if directory.size > limits.members * _ENTRY.size + _NAMES_BYTES:
        raise ArchiveRefusedError("the zip file's directory is too large")
    file.seek(directory.at)
    content = memoryview(file.read(directory.size))
    taken, at = array("Q"), 0
    for _ in range(directory.entries):
        header, name, extra, at = _parse_entry(content, at)
        entry, local_at = _to_entry(file, directory, header, name, extra)
        if entry.name == OFFICE_CONTENTS:
            raise ArchiveRefusedError(OFFICE_REFUSED)
        if entry.is_consistent:
            taken.extend((local_at, entry.content_at + entry.packed_size))
        yield entry
    if at != directory.size:
        raise ArchiveRefusedError("the zip file's directory has more entries than declared")
    _check_overlaps(taken)


def _find_directory(file: IO[bytes]) -> _Directory:
    """Find the directory by the end record, and check that all records agree."""
    size = file.seek(0, 2)
    tail_at = max(0, size - _END.size - _MAX_COMMENT_BYTES)
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(_END_MARK)
    if at < 0 or at + _END.size > len(tail):
        raise ArchiveRefusedError("the zip file has no end record: it may be truncated")
    _, *disks, entries, directory_bytes, directory_at, comment_bytes = _END.unpack_from(tail, at)
    if at + _END.size + comment_bytes != len(tail):
        raise ArchiveRefusedError("the zip file has data after its end record")
    end_at = tail_at + at
    if found := _read_zip64(file, end_at):
        claims = (disks[-1], entries, directory_bytes, directory_at)
        end_at, entries, directory_bytes, directory_at = _agreed(found, claims, end_at)
    elif disks != [0, 0, entries]:
        raise ArchiveRefusedError("multi-part zip files are not supported")
    start = end_at - directory_bytes
    if start != directory_at:  # elsewhere it belongs to another zip, appended or nested
        raise ArchiveRefusedError("the zip file's directory is misplaced")
    return _Directory(start, directory_bytes, entries)


def _read_zip64(file: IO[bytes], end_at: int) -> tuple[int, ...] | None:
    """Return the locator's offset and the fields of the zip64 end record, or None."""
    at = end_at - _LOCATOR.size
    if at < 0:
        return None
    file.seek(at)
    mark, _, located_at, _ = _LOCATOR.unpack(file.read(_LOCATOR.size))
    if mark != _LOCATOR_MARK:
        return None
    file.seek(max(0, at - _END64.size))
    record = file.read(_END64.size)
    if at < _END64.size or not record.startswith(_END64_MARK):
        raise ArchiveRefusedError("the zip file's zip64 record is misplaced")
    _, rest, _, _, *fields = _END64.unpack(record)
    if rest != _END64_REST:
        raise ArchiveRefusedError("the zip file's zip64 record is of an unknown kind")
    return (located_at, *fields)


def _agreed(
    found: tuple[int, ...], claims: tuple[int, ...], end_at: int
) -> tuple[int, int, int, int]:
    """Return offset and fields of the zip64 end record, checked against the end record."""
    located_at, disk, start_disk, *claims64 = found
    entries_here, entries, directory_bytes, directory_at = claims64
    record_at = end_at - _LOCATOR.size - _END64.size
    most = (_16, _16, _32, _32)
    agree = (
        all(
            said in {true, unsaid}
            for said, true, unsaid in zip(claims, claims64, most, strict=True)
        ),
        not disk and not start_disk,
        entries_here == entries,
        located_at == record_at,
    )
    if not all(agree):
        raise ArchiveRefusedError("the zip file's end records disagree")
    return record_at, entries, directory_bytes, directory_at


def _parse_entry(content: memoryview, at: int) -> tuple[_Header, bytes, memoryview, int]:
    """Return header, name and extra field of an entry, and the offset of the next one."""
    if at + _ENTRY.size > len(content):
        raise ArchiveRefusedError("the zip file's directory is truncated")
    header = _Header(*_ENTRY.unpack_from(content, at))
    name_at = at + _ENTRY.size
    extra_at = name_at + header.name_bytes
    comment_at = extra_at + header.extra_bytes
    end = comment_at + header.comment_bytes
    if header.mark != _ENTRY_MARK or end > len(content):
        raise ArchiveRefusedError("the zip file's directory is corrupt")
    return header, bytes(content[name_at:extra_at]), content[extra_at:comment_at], end


def _to_entry(
    file: IO[bytes], directory: _Directory, header: _Header, raw_name: bytes, extra: memoryview
) -> tuple[Entry, int]:
    """Return a member and the offset of its local header."""
    size, packed_size, local_at = _with_zip64(header, extra)
    content_at = _check_local(file, local_at, header, raw_name)
    is_stored = header.method == _STORED and not header.flags & _ENCRYPTED
    is_consistent = (
        content_at > 0
        and content_at + packed_size <= directory.at
        and (packed_size == size if is_stored else packed_size <= 2 * size + _PACKING_BYTES)
    )
    name = _decode_name(raw_name, is_utf8=bool(header.flags & _UTF8))
    kind = header.external_attributes >> 28
    entry = Entry(
        name=name[:NAME_KEPT],
        size=size,
        packed_size=packed_size,
        is_file=kind in {0, 8},  # S_IFREG, or written where there are no kinds
        is_folder=name.endswith("/"),
        is_encrypted=bool(header.flags & _ENCRYPTED),
        is_bounded=header.method in {_STORED, _DEFLATED},
        is_consistent=is_consistent,
        is_deflated=header.method == _DEFLATED,
        content_at=content_at,
        crc=header.crc,
    )
    return entry, local_at


def _decode_name(raw_name: bytes, *, is_utf8: bool) -> str:
    """Decode a path; some programs write undeclared UTF-8, and some backslashes (4.4.17)."""
    try:
        name = raw_name.decode()
    except UnicodeDecodeError:
        name = raw_name.decode("utf-8" if is_utf8 else "cp437", "surrogateescape")
    return name.replace("\\", "/")


def _with_zip64(header: _Header, extra: memoryview) -> tuple[int, int, int]:
    """Return size, compressed size and offset of a member, maybe of its zip64 field (4.5.3)."""
    numbers = [header.size, header.packed_size, header.local_at]
    wanted = [place for place, number in enumerate(numbers) if number == _32]
    at = 0
    while wanted and at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        at += 4
        if kind == _ZIP64_FIELD and length >= 8 * len(wanted) and at + length <= len(extra):
            for place, number in zip(
                wanted, struct.unpack_from(f"<{len(wanted)}Q", extra, at), strict=True
            ):
                numbers[place] = number
            break
        at += length
    size, packed_size, local_at = numbers
    return size, packed_size, local_at


def _check_local(file: IO[bytes], at: int, header: _Header, name: bytes) -> int:
    """Return the offset of a member's content, or 0 if its local header disagrees."""
    if not 0 <= at < 1 << 62:
        return 0
    file.seek(at)
    local = file.read(_LOCAL.size + len(name))
    if len(local) < _LOCAL.size + len(name):
        return 0
    mark, _, flags, method, _, _, crc, packed_size, size, name_bytes, extra_bytes = (
        _LOCAL.unpack_from(local)
    )
    said = (mark, flags & _ENCRYPTED, method, name_bytes, local[_LOCAL.size :])
    if said != (_LOCAL_MARK, header.flags & _ENCRYPTED, header.method, len(name), name):
        return 0
    if not flags & _HAS_DESCRIPTOR:
        sizes = ((packed_size, header.packed_size), (size, header.size))
        if crc != header.crc or any(here not in {there, _32} for here, there in sizes):
            return 0
    return at + _LOCAL.size + len(name) + int(extra_bytes)


def _check_overlaps(taken: "array[int]") -> None:
    """Refuse overlapping members (Fifield, A better zip bomb)."""
    stretches = sorted(zip(taken[::2], taken[1::2], strict=True))
    for (_, end), (start, _) in pairwise(stretches):
        if start < end:
            raise ArchiveRefusedError("members of the zip file overlap")
