"""Archives that no honest program writes."""

import struct
import tarfile
import zlib
from dataclasses import dataclass

BLOCK = 512


@dataclass(frozen=True)
class Member:
    """A member of a zip: what its two headers say, and where its content is."""

    name: bytes = b"a.png"
    content: bytes = b"content"
    method: int = 0
    flags: int = 0
    size: int | None = None
    local_name: bytes | None = None
    at: int | None = None
    """Of its local header; none is written where another member's is taken."""

    @property
    def packed_size(self) -> int:
        return len(self.content)

    def local(self) -> bytes:
        name = self.name if self.local_name is None else self.local_name
        return self._pack("<4sHHHLLLLHH", b"PK\x03\x04", 20, name) + name + self.content

    def directory(self, at: int) -> bytes:
        start = self._pack("<4sHHHHLLLLHH", b"PK\x01\x02", 20, self.name, 20)
        at = at if self.at is None else self.at
        return start + struct.pack("<HHHLL", 0, 0, 0, 0, at) + self.name

    def _pack(self, form: str, signature: bytes, version: int, name: bytes, *more: int) -> bytes:
        size = len(self.content) if self.size is None else self.size
        crc = zlib.crc32(self.content)
        sizes = (crc, self.packed_size, size, len(name), 0)
        return struct.pack(form, signature, version, *more, self.flags, self.method, 0, *sizes)


@dataclass(frozen=True)
class End:
    """False claims of a zip's end records."""

    entries: int | None = None
    directory_bytes: int | None = None
    zip64: "End | None" = None
    """Claims of a zip64 end record; none is written without."""
    locator_offset: int = 0
    """Added to where the zip64 record is."""
    comment: bytes = b""
    comment_bytes: int | None = None

    def claims(self, entries: int, directory_bytes: int) -> tuple[int, int]:
        return (
            entries if self.entries is None else self.entries,
            directory_bytes if self.directory_bytes is None else self.directory_bytes,
        )


def zip_file(
    members: list[Member], end: End | None = None, directory: bytes | None = None
) -> bytes:
    """Return a zip of members, with whatever end records."""
    end = end or End()
    content, entries = b"", b""
    for member in members:
        entries += member.directory(len(content))
        if member.at is None:
            content += member.local()
    directory = entries if directory is None else directory
    return content + directory + _end(end, len(members), len(directory), len(content))


def _end(end: End, entries: int, size: int, at: int) -> bytes:
    records = b""
    if end.zip64 is not None:
        count, claimed = end.zip64.claims(entries, size)
        form = "<4sQHHLLQQQQ"
        records = struct.pack(form, b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, claimed, at)
        records += struct.pack("<4sLQL", b"PK\x06\x07", 0, at + size + end.locator_offset, 1)
    comment_bytes = len(end.comment) if end.comment_bytes is None else end.comment_bytes
    count, claimed = end.claims(entries, size)
    plain = (b"PK\x05\x06", 0, 0, count, count, claimed, at, comment_bytes)
    return records + struct.pack("<4sHHHHLLH", *plain) + end.comment


def many_entries(count: int, name: bytes = b"a.png") -> bytes:
    """Return a zip whose end record claims one entry, and whose zip64 record many."""
    entry = Member(name, b"").directory(0)
    end = End(entries=1, directory_bytes=len(entry), zip64=End(entries=count))
    return zip_file([Member(name, b"")], end, entry * count)


def tar_header(name: str, kind: bytes = b"0", size: int = 0, link: str = "") -> bytes:
    """Return a block that begins a member of a tar."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info.tobuf(tarfile.GNU_FORMAT)


def padded(content: bytes) -> bytes:
    """Fill up the last block of a tar's content."""
    return content + bytes(-len(content) % BLOCK)


def tar_member(name: str, content: bytes, kind: bytes = b"0") -> bytes:
    """Return a member of a tar, or a header with a payload."""
    return tar_header(name, kind, len(content)) + padded(content)


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    """Return a PAX header, whatever its records are."""
    return tar_member("x", records, kind)


def pax_record(key: str, value: str) -> bytes:
    """Return a well-formed record of a PAX header."""
    rest = f" {key}={value}\n".encode()
    length = len(rest) + len(str(len(rest)))
    length += len(str(length)) - len(str(len(rest)))
    return str(length).encode() + rest


END_OF_TAR = bytes(2 * BLOCK)
