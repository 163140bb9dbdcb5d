"""How the rows of a list are packed in a document of the collection ``lists``."""

import json
import zlib
from collections.abc import Iterable

ListRow = tuple[int, str, str | None]
"""Line, URL and annotation."""
_FAST = 1


def pack_rows(rows: Iterable[ListRow]) -> bytes:
    """Return rows as they are stored."""
    return zlib.compress(json.dumps(list(rows), ensure_ascii=False).encode(), _FAST)


def unpack_rows(packed: bytes) -> list[ListRow]:
    """Return stored rows."""
    return [(line, url, text) for line, url, text in json.loads(zlib.decompress(packed))]
