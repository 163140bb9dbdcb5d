"""Decompress untrusted gzip files (RFC 1952) in bounded chunks."""

import zlib
from collections.abc import Iterator
from typing import IO

from services.fetcher.sources.lists.rows import MalformedListError

PIECE_BYTES = 1024 * 1024
_PACKED_BYTES = 64 * 1024
_GZIP_BITS = 31
_MEMBERS = 10_000
_BYTES_A_MEMBER = 1024
"""Minimum average size of a member, beyond 10,000 members: millions of empty ones take minutes."""
_MARK = b"\x1f\x8b"


class GzipError(MalformedListError):
    """The gzip file is corrupt or incomplete."""


def is_gzip(file: IO[bytes]) -> bool:
    """Return whether a file starts like gzip, and rewind it."""
    file.seek(0)
    mark = file.read(len(_MARK))
    file.seek(0)
    return mark == _MARK


def gunzipped(file: IO[bytes]) -> Iterator[bytes]:
    """Decompress a gzip file in chunks of at most 1 MiB, which may be empty.

    Raises:
        GzipError: It is corrupt or truncated, or has too many members.
    """
    file.seek(0)
    inflate, members, taken_bytes, packed = None, 0, 0, b""
    while packed or (packed := file.read(_PACKED_BYTES)):
        if inflate is None:
            packed = packed.lstrip(b"\0") if members else packed  # padding of a tape's last block
            if not packed:
                continue
            inflate, members = zlib.decompressobj(_GZIP_BITS), members + 1
            if members > _MEMBERS + taken_bytes // _BYTES_A_MEMBER:
                raise GzipError("the gzip file has too many small members")
        try:
            yield inflate.decompress(packed, PIECE_BYTES)
        except zlib.error as error:
            raise GzipError(f"corrupt gzip file: {error}") from error
        left = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
        taken_bytes += len(packed) - len(left)
        packed, inflate = left, None if inflate.eof else inflate
    if inflate is not None or not members:
        raise GzipError("truncated gzip file")
