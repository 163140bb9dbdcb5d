"""Encode the rows of a list in a document of the collection ``lists``."""

import json
import zlib
from collections.abc import Iterable
from typing import Any

ListRow = tuple[int, str, str | None, dict[str, Any]]
"""Line, URL, annotation, and the fields of ``Details`` that are said."""
_FAST = 1


def pack_rows(rows: Iterable[ListRow]) -> bytes:
    """Encode rows for storage."""
    short = [row if row[3] else row[:3] for row in rows]
    return zlib.compress(json.dumps(short, ensure_ascii=False).encode(), _FAST)


def unpack_rows(packed: bytes) -> list[ListRow]:
    """Decode stored rows."""
    rows = json.loads(zlib.decompress(packed))
    return [(line, url, text, *(more or ({},))) for line, url, text, *more in rows]
