"""Keyset pagination over an indexed field.

Each query reads a bounded range of the field. Ranges grow and shrink by what the last one took and
found: a selective filter yields cursors while it is searched, and each query takes about as long
(docs/decisions/0033-keyset-pages-read-ranges.md).
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any, Generic, TypeVar

from services.common.adapters.mongo import Document
from services.common.adapters.repository import Repository
from services.common.domain.records import StoredRecord

D = TypeVar("D", bound=StoredRecord)
F = TypeVar("F")
LIMIT = 200
"""Documents of a page."""
QUERY_SECONDS = 0.04
"""Time of a query that ranges are fitted to: short, since the last one is not interrupted."""
QUERY_SHARE = 0.1
"""Longer ones may take this share of all queries so far, else a slow server would never be done."""
MOST_GROWTH = 2.0
LEAST_GROWTH = 0.5
SPARE = 1.2
"""Factor by which a range exceeds the one that would hold the documents that are missing."""
CLOCK_SKEW = timedelta(minutes=5)
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class SortKey:
    """A sort field, the first of an index. Documents without it are not found.

    Args:
        field: Its path.
        first: First value, inclusive.
        last: Last value, inclusive.
        step: Extent of the first and smallest range; negative for a descending order.
        decode: Converts the field's value to a number.
        encode: Converts it back.
    """

    field: str
    first: Any
    last: Any
    step: Any
    decode: Callable[[Any], Any] = _same
    encode: Callable[[Any], Any] = _same

    @property
    def direction(self) -> int:
        """1 for an ascending order, else -1."""
        return -1 if self.last < self.first else 1

    def end_of(self, start: Any, extent: Any) -> Any:
        """Return the last value of a range that begins at ``start``."""
        end = self.encode(self.decode(start) + extent)
        return min(end, self.last) if self.direction > 0 else max(end, self.last)


def by_score(low: float = 0.0, high: float = 1.0) -> SortKey:
    """Sort by the score of predictions, ascending."""
    return SortKey("prediction.score", low, high, 0.004)


def by_score_descending(low: float = 0.0, high: float = 1.0) -> SortKey:
    """Sort by the score of predictions, descending."""
    return SortKey("prediction.score", high, low, -0.004)


def by_disagreement() -> SortKey:
    """Sort images by the disagreement of two models, descending."""
    return SortKey("disagreement", 1.0, 0.0, -0.016)


def by_change(now: datetime) -> SortKey:
    """Sort all documents by their last change, newest first."""
    return SortKey("indexed_at", now + CLOCK_SKEW, LONG_AGO, timedelta(minutes=-1))


def by_page_number(most: int) -> SortKey:
    """Sort the pages of a document, up to this number, ascending."""
    return SortKey("document.number", 1, most, 100)


def by_sha256(start: float = 0.0) -> SortKey:
    """Sort images by their SHA-256, which is independent of their contents.

    Args:
        start: First position, from 0 up to 1.
    """
    return SortKey("sha256", _to_hash(start), "g", 0.0005, decode=_from_hash, encode=_to_hash)


def _to_hash(part: float) -> str:
    return f"{int(part * 16**12):012x}" if part < 1 else "g"


def _from_hash(text: str) -> float:
    return int(text[:12], 16) / 16**12


@dataclass(frozen=True)
class Cursor:
    """A cursor: after all documents with a value, or after one of them."""

    value: Any
    document_id: str | None = None


@dataclass(frozen=True)
class Page(Generic[D]):
    """Documents in order, and the next cursor (None: the end)."""

    documents: list[D]
    next: Cursor | None


async def paginate(
    repository: Repository[D, F],
    where: F,
    key: SortKey,
    *,
    after: Cursor | None = None,
    limit: int = LIMIT,
    fields: Mapping[str, int] | None = None,
    clock: Callable[[], float] = perf_counter,
) -> AsyncIterator[Page[D]]:
    """Yield pages of the documents that match ``where``; some are not full, or empty.

    Args:
        repository: Of the collection.
        where: Filter; without a condition on the key's field.
        key: The sort order.
        after: The cursor to continue from.
        limit: Documents per page.
        fields: Projection with the key's field; None: all.
        clock: Seconds, by which ranges are fitted.
    """
    ranges, sort = _Ranges(key, limit), [(key.field, key.direction), ("_id", key.direction)]
    while True:
        begun = clock()
        condition, end = _range(key, after, ranges.extent)
        found = repository.find_range(where, condition, sort=sort, limit=limit, fields=fields)
        documents = [document async for document in found]
        last = cursor_behind(documents[-1], key) if len(documents) == limit else None
        ranges.fit(after, last, len(documents), clock() - begun)
        after = last or Cursor(end)
        has_ended = last is None and end == key.last
        yield Page(documents, None if has_ended else after)
        if has_ended:
            return


class _Ranges:
    """Fits the extent of the next range to what the last ones took and found."""

    def __init__(self, key: SortKey, limit: int) -> None:
        self.extent = key.step
        self._key = key
        self._limit = limit
        self._missing = limit
        """Documents until a page is full."""
        self._total_seconds = 0.0

    def fit(self, after: Cursor | None, last: Cursor | None, found: int, seconds: float) -> None:
        """Fit it to a range.

        Args:
            after: Cursor that the range began at.
            last: Of the last document of a full page; None: it was not full.
            found: Number of documents.
            seconds: Time of its query.
        """
        key = self._key
        self._total_seconds += seconds
        if last is not None:
            start = key.first if after is None else after.value
            # The next page is about as wide as this one
            self.extent = max(key.decode(last.value) - key.decode(start), key.step, key=abs)
            self._missing = self._limit
            return
        self._missing = self._missing - found if self._missing > found else self._limit
        if after is None or after.document_id is None:  # otherwise it was of one value
            wanted = max(QUERY_SECONDS, QUERY_SHARE * self._total_seconds)
            growth = _growth(wanted / max(seconds, 1e-9), found, self._missing)
            self.extent = max(self.extent * growth, key.step, key=abs)


def cursor_behind(document: StoredRecord, key: SortKey) -> Cursor:
    """Return the cursor after a document."""
    value: Any = document
    for name in key.field.split("."):
        value = getattr(value, name)
    return Cursor(value, document.id)


def _growth(time_left: float, found: int, missing: int) -> float:
    """Return how much wider than the last range the next one is.

    Args:
        time_left: How many times as long as the last query one may take.
        found: Documents of the last range.
        missing: Documents until a page is full.
    """
    growth = min(MOST_GROWTH, time_left)
    if found:
        growth = min(growth, SPARE * missing / found)
    return max(growth, LEAST_GROWTH)


def _range(key: SortKey, after: Cursor | None, extent: Any) -> tuple[Document, Any]:
    """Return the condition of the next range, and its last value."""
    beyond, until = ("$gt", "$lte") if key.direction > 0 else ("$lt", "$gte")
    if after is not None and after.document_id is not None:
        return {key.field: after.value, "_id": {beyond: after.document_id}}, after.value
    if after is None:
        start, beyond = key.first, f"{beyond}e"
    else:
        start = after.value
    end = key.end_of(start, extent)
    return {key.field: {beyond: start, until: end}}, end
