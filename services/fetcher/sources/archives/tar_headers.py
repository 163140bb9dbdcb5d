"""Parse the headers of a tar (POSIX.1-2017, pax; GNU tar) in bounded time and memory.

tarfile reads a member's extended headers as a whole, in some Pythons in quadratic time
(CVE-2024-6232).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from services.fetcher.sources.archives.members import NAME_KEPT, ArchiveRefusedError, Entry

BLOCK_BYTES = 512
MAX_HEADER_BYTES = 64 * 1024
"""Limit of all headers before a member's content together."""
_PIECE_BYTES = 64 * 1024
_SIZE, _CHECKSUM = slice(124, 136), slice(148, 156)
_EXTENDED_AT, _HEADER_EXTENDED_AT = 504, 482
"""Whether another map of holes follows: in a map, and in a header of the old GNU kind."""
_MAGIC, _POSIX = slice(257, 263), b"ustar\0"
_FILES, _FOLDER = b"0\07", b"5"
_WITHOUT_CONTENT = b"123456"
"""Links, devices and folders, whose declared size is ignored."""
_LONG_NAME, _LONG_LINK, _SPARSE = b"L", b"K", b"S"
_PAX, _SOLARIS_PAX, _GLOBAL_PAX = b"x", b"X", b"g"
_MAX_DIGITS = 20
_MAX_LENGTH_DIGITS = 6


@dataclass
class _Extended:
    """Extended headers of a member."""

    at: int
    path: str | None = None
    size: int | None = None
    is_sparse: bool = False
    taken_bytes: int = field(default=0)

    def take(self, size: int) -> None:
        """Count bytes of headers.

        Raises:
            ArchiveRefusedError: They exceed the limit.
        """
        self.taken_bytes += size
        if self.taken_bytes > MAX_HEADER_BYTES:
            detail = f"the headers of a member have more than {MAX_HEADER_BYTES} bytes"
            raise ArchiveRefusedError(f"{detail}, at byte {self.at} of the tar file")


def tar_entries(file: IO[bytes]) -> Iterator[Entry]:
    """Yield the members of a tar in order.

    Raises:
        ArchiveRefusedError: It is corrupt or truncated.
    """
    file_bytes = file.seek(0, 2)
    at = 0
    while (found := _read_member(file, at, file_bytes)) is not None:
        entry, at = found
        yield entry


def _read_member(file: IO[bytes], at: int, file_bytes: int) -> tuple[Entry, int] | None:
    """Return the member at ``at`` and the offset of the next one; None at the end."""
    extended = _Extended(at)
    while True:
        file.seek(at)
        header = file.read(BLOCK_BYTES)
        if not header.strip(b"\0"):
            if extended.taken_bytes or 0 < len(header) < BLOCK_BYTES:
                raise _broken(at)
            following = _joined_archive(file, at)
            if following is None:
                return None
            at = following
            continue
        extended.take(BLOCK_BYTES)
        _check_block(header, at)
        kind, size = header[156:157], _number(header[_SIZE], at)
        at += BLOCK_BYTES
        if kind not in _EXTENDING:
            entry = _to_entry(file, header, extended, at)
            if entry.content_at + entry.size > file_bytes:
                raise ArchiveRefusedError("the tar file is truncated")
            return entry, entry.content_at + _padded(entry.size)
        extended.take(_padded(size))
        payload = file.read(size)
        if len(payload) < size:
            raise _broken(at)
        _extend(extended, kind, payload, at)
        at += _padded(size)


def _joined_archive(file: IO[bytes], at: int) -> int | None:
    """Return the offset of an archive behind the end of another, as ``cat`` joins them, or None.

    Anything else there is ignored, as other programs do.
    """
    file.seek(at)
    while piece := file.read(_PIECE_BYTES):
        if rest := piece.lstrip(b"\0"):
            at += (len(piece) - len(rest)) // BLOCK_BYTES * BLOCK_BYTES
            break
        at += len(piece)
    file.seek(at)
    try:
        _check_block(file.read(BLOCK_BYTES), at)
    except ArchiveRefusedError:
        return None
    return at


_EXTENDING = frozenset({_LONG_NAME, _LONG_LINK, _PAX, _SOLARIS_PAX, _GLOBAL_PAX})


def _check_block(header: bytes, at: int) -> None:
    """Refuse a block that is not a header; some programs sum signed bytes."""
    said = _number(header[_CHECKSUM], at)
    rest = header[: _CHECKSUM.start] + b" " * 8 + header[_CHECKSUM.stop :]
    total = sum(rest)
    if len(header) < BLOCK_BYTES or said not in {total, total - 256 * sum(b > 127 for b in rest)}:
        raise _broken(at)


def _number(text: bytes, at: int) -> int:
    """Return a number, octal or base 256."""
    if text[:1] == b"\x80":
        return int.from_bytes(text[1:])
    digits = text.partition(b"\0")[0].strip() or b"0"
    if digits.translate(None, b"01234567"):
        raise _broken(at)
    return int(digits, 8)


def _extend(extended: _Extended, kind: bytes, payload: bytes, at: int) -> None:
    if kind == _LONG_NAME:
        extended.path = _text(payload)
    elif kind != _LONG_LINK:
        for key, value in _pax_records(payload, at):
            if key in {b"path", b"size"} and kind == _GLOBAL_PAX:
                raise _broken(at)
            if key == b"path":
                extended.path = _text(value)
            elif key == b"size":
                extended.size = _decimal(value, at)
            elif key.startswith(b"GNU.sparse."):
                extended.is_sparse = True


def _pax_records(payload: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of records ``length key=value`` and a line feed."""
    start = 0
    while start < len(payload):
        digits, space, _ = payload[start : start + _MAX_LENGTH_DIGITS].partition(b" ")
        end = start + int(digits) if space and digits.isdigit() else 0
        key, equals, value = payload[start + len(digits) + 1 : max(0, end - 1)].partition(b"=")
        if end > len(payload) or not equals or payload[end - 1 : end] != b"\n":
            raise _broken(at)
        yield key, value
        start = end


def _decimal(value: bytes, at: int) -> int:
    if not value.isdigit() or len(value) > _MAX_DIGITS:
        raise _broken(at)
    return int(value)


def _to_entry(file: IO[bytes], header: bytes, extended: _Extended, at: int) -> Entry:
    kind, name = header[156:157], extended.path
    if name is None:
        name = _short_name(header)
    if kind == _SPARSE:
        at = _after_maps(file, header, extended, at)
    size = _number(header[_SIZE], at) if extended.size is None else extended.size
    size = 0 if kind in _WITHOUT_CONTENT else size
    is_folder = kind == _FOLDER or (kind in _FILES and name.endswith("/"))
    return Entry(
        name=name[:NAME_KEPT],
        size=size,
        packed_size=size,
        is_file=kind in _FILES and not is_folder and not extended.is_sparse,
        is_folder=is_folder,
        header_bytes=extended.taken_bytes,
        content_at=at,
    )


def _short_name(header: bytes) -> str:
    name, prefix = _text(header[:100]), _text(header[345:500])
    # GNU tar has other fields in place of the prefix
    return f"{prefix}/{name}" if prefix and header[_MAGIC] == _POSIX else name


def _after_maps(file: IO[bytes], header: bytes, extended: _Extended, at: int) -> int:
    """Return the end of the sparse maps after an old GNU header."""
    goes_on = header[_HEADER_EXTENDED_AT]
    while goes_on:
        extended.take(BLOCK_BYTES)
        block = file.read(BLOCK_BYTES)
        at += BLOCK_BYTES
        goes_on = block[_EXTENDED_AT] if len(block) == BLOCK_BYTES else 0
    return at


def _padded(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _text(content: bytes) -> str:
    return content.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _broken(at: int) -> ArchiveRefusedError:
    return ArchiveRefusedError(f"the tar file is corrupt or truncated at byte {at}")
