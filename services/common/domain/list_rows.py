"""Encode the rows of a list in a document of the collection ``lists``."""

import json
import zlib
from collections.abc import Iterable

ListRow = tuple[int, str, str | None]
"""Line, URL and annotation."""
_FAST = 1


def pack_rows(rows: Iterable[ListRow]) -> bytes:
    """Encode rows for storage."""
    return zlib.compress(json.dumps(list(rows), ensure_ascii=False).encode(), _FAST)


def unpack_rows(packed: bytes) -> list[ListRow]:
    """Decode stored rows."""
    return [(line, url, text) for line, url, text in json.loads(zlib.decompress(packed))]
