"""Random access to archive members by an index of 45 bytes per member, on disk or in memory."""

import hashlib
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, NamedTuple

from services.fetcher.sources.archives.members import (
    ArchiveLimits,
    ArchiveRefusedError,
    Entry,
    checked,
    refusal,
)

_RECORD = struct.Struct("<16sQQQIB")
_DIGEST_BYTES = 16
_PIECE_BYTES = 64 * 1024
_RAW_DEFLATE = -15
_IS_DEFLATED, _HAS_CRC = 1, 2


class ContentLocation(NamedTuple):
    """Location and checks of a member's content."""

    at: int
    packed_size: int
    size: int
    crc: int
    flags: int


def index_records(entries: Iterable[Entry], limits: ArchiveLimits) -> Iterator[bytes]:
    """Yield the sorted index records of accepted members, the first of each path.

    Raises:
        ArchiveRefusedError: There are too many members, or they are too large together.
    """
    places: dict[bytes, bytes] = {}
    for number, entry in checked(entries, limits):
        if refusal(number, entry, limits) is None:
            digest = _digest(entry.name)
            flags = (_IS_DEFLATED if entry.is_deflated else 0) | (
                _HAS_CRC if entry.crc is not None else 0
            )
            place = ContentLocation(
                entry.content_at, entry.packed_size, entry.size, entry.crc or 0, flags
            )
            places.setdefault(digest, _RECORD.pack(digest, *place))
    yield from sorted(places.values())


class MemberReader:
    """Reads members (thread-safe).

    Args:
        file: The archive.
        index: Its concatenated ``index_records``.
    """

    def __init__(self, file: IO[bytes], index: IO[bytes]) -> None:
        self._file = file
        self._index = index
        self._count = index.seek(0, 2) // _RECORD.size
        self._reading = threading.Lock()  # a cancelled caller leaves a thread that still reads

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Return a member's content, or its first ``max_bytes`` + 1 bytes.

        Raises:
            ArchiveRefusedError: The member does not exist, or its content is corrupt.
        """
        with self._reading:
            place = self._find(_digest(name))
            self._file.seek(place.at)
            is_deflated = place.flags & _IS_DEFLATED
            content = (_inflated if is_deflated else _stored)(self._file, place, max_bytes + 1)
        if len(content) <= max_bytes:
            _check(content, place)
        return content

    def _find(self, digest: bytes) -> ContentLocation:
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            self._index.seek(middle * _RECORD.size)
            found, *place = _RECORD.unpack(self._index.read(_RECORD.size))
            if found == digest:
                return ContentLocation(*place)
            low, high = (middle + 1, high) if found < digest else (low, middle)
        raise ArchiveRefusedError("the archive has no such readable member")


def _stored(file: IO[bytes], place: ContentLocation, most: int) -> bytes:
    return file.read(min(place.size, most))


def _inflated(file: IO[bytes], place: ContentLocation, most: int) -> bytes:
    inflate = zlib.decompressobj(_RAW_DEFLATE)
    content, left = bytearray(), place.packed_size
    try:
        while len(content) < most and not inflate.eof:
            packed = inflate.unconsumed_tail
            if not packed:
                packed = file.read(min(left, _PIECE_BYTES))
                left -= len(packed)
            if not packed:
                break
            content += inflate.decompress(packed, most - len(content))
    except zlib.error as error:
        raise ArchiveRefusedError(f"the member cannot be decompressed: {error}") from error
    return bytes(content)


def _check(content: bytes, place: ContentLocation) -> None:
    if len(content) != place.size:
        raise ArchiveRefusedError("the member has a wrong length")
    if place.flags & _HAS_CRC and zlib.crc32(content) != place.crc:
        raise ArchiveRefusedError("the member's checksum is wrong")


def _digest(name: str) -> bytes:
    encoded = name.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(encoded, digest_size=_DIGEST_BYTES).digest()
