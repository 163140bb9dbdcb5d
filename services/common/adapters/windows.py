"""Documents in the order of a field, read in narrow windows of its values.

A filter that few documents meet makes a query that is long under way; windows let a page show
what was found so far, and go on from there. How far a window reaches follows from how many
documents the last one held; only one that took very long makes the next one narrower, so that a
busy machine does not keep windows narrow where there is nothing.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from time import monotonic
from typing import Any

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Document
from services.common.domain.image import ImageDocument

MOST = 200
"""Documents of one query."""
FEW = MOST // 8
LONG_SECONDS = 0.5
"""The next window is narrower after one that took so long beyond a mere answer."""
MOST_SLOW = 8
"""After so many slow windows, each half as wide, the server is slow and not the window wide."""
FAR_SECONDS = 0.02
"""A mere answer that takes longer comes from afar: there is time for a few questions only."""
GROWTH, GROWTH_FROM_AFAR = 2, 8
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Axis:
    """A field to walk along; it must lead an index.

    Args:
        field: Its path; documents without it are not on the axis.
        begin: Where to start, included.
        end: Where to stop, included.
        width: Of the first window; negative to walk down.
        decode: From the field's value to what ``width`` can be added to.
        encode: And back.
    """

    field: str
    begin: Any
    end: Any
    width: Any
    decode: Callable[[Any], Any] = _same
    encode: Callable[[Any], Any] = _same

    @property
    def is_down(self) -> bool:
        """Whether it is walked from high to low values."""
        return bool(self.end < self.begin)

    def step(self, value: Any, width: Any) -> Any:
        """Return where a window ends that begins at a value."""
        far = self.encode(self.decode(value) + width)
        return max(far, self.end) if self.is_down else min(far, self.end)

    def distance(self, start: "Position | None", end: "Position") -> Any:
        """Return the width of a window from one position (None: the begin) to another."""
        return self.decode(end.value) - self.decode(self.begin if start is None else start.value)


def worst(low: float = 0.0, high: float = 1.0) -> Axis:
    """Return the axis of predictions, the worst first."""
    return Axis("prediction.score", low, high, 0.001)


def best(low: float = 0.0, high: float = 1.0) -> Axis:
    """Return the axis of predictions, the best first."""
    return Axis("prediction.score", high, low, -0.001)


def most_apart() -> Axis:
    """Return the axis of images that two versions read differently, the farthest apart first."""
    return Axis("disagreement", 1.0, 0.0, -0.001)


def newest(now: datetime) -> Axis:
    """Return the axis of all documents, what changed last first."""
    ahead = timedelta(hours=1)  # clocks differ
    return Axis("indexed_at", now + ahead, LONG_AGO, timedelta(minutes=-1))


def by_hash(start: float) -> Axis:
    """Return the axis of images in an order that has nothing to do with what they show.

    Args:
        start: Where in it, from 0 up to 1.
    """
    return Axis("sha256", _to_hash(start), "g", 0.0005, decode=_from_hash, encode=_to_hash)


def _to_hash(part: float) -> str:
    return f"{int(part * 16**12):012x}" if part < 1 else "g"


def _from_hash(text: str) -> float:
    return int(text[:12], 16) / 16**12


@dataclass(frozen=True)
class Position:
    """Where a walk is: behind all documents with a value, or behind one of them."""

    value: Any
    document_id: str | None = None


@dataclass(frozen=True)
class Window:
    """Some documents, in order, and where to go on (None: these were the last)."""

    documents: list[ImageDocument]
    next: Position | None


async def walk(
    images: ImageRepository,
    axis: Axis,
    where: Document,
    *,
    after: Position | None = None,
    fields: Mapping[str, int] | None = None,
) -> AsyncIterator[Window]:
    """Yield windows with the documents that meet ``where``, until the axis ends.

    Args:
        images: The collection.
        axis: Along what.
        where: What documents meet beside; no condition on the axis' field.
        after: Where to go on.
        fields: Which to read, the axis' among them; None: all.

    Raises:
        IndexUnavailableError: MongoDB does not answer.
    """
    position, width, quickest, slow = after, axis.width, inf, 0
    while True:
        condition, edge = _condition(axis, position, width)
        found = images.find(
            # The window comes first: the local stand-in for MongoDB plans by the first condition
            {**condition, **where},
            sort=[(axis.field, -1 if axis.is_down else 1), ("_id", 1)],
            limit=MOST,
            fields=fields,
        )
        begun = monotonic()
        documents = [document async for document in found]
        seconds = monotonic() - begun
        quickest = min(quickest, seconds)
        slow = slow + 1 if _is_slow(seconds, quickest) else 0
        if len(documents) == MOST:
            last = position_of(documents[-1], axis)
            # As wide as these were apart
            width = axis.distance(position, last)
            position = last
        else:
            position = Position(edge)
            is_wide = 0 < slow <= MOST_SLOW
            width *= 0.5 if is_wide else _growth(len(documents), quickest)
        # A narrower one could end where it begins
        width = max(width, axis.width, key=abs)
        has_ended = position.document_id is None and position.value == axis.end
        yield Window(documents, None if has_ended else position)
        if has_ended:
            return


def _is_slow(seconds: float, quickest: float) -> bool:
    """Whether a window took long beyond the quickest: the rest is the way to the server."""
    return seconds - quickest > max(LONG_SECONDS, quickest)


def _growth(count: int, quickest: float) -> float:
    """Return how many times as wide the window after one with so many documents is."""
    if count >= FEW:
        return 1
    return GROWTH if quickest < FAR_SECONDS else GROWTH_FROM_AFAR


def position_of(document: ImageDocument, axis: Axis) -> Position:
    """Return the position right behind a document."""
    value: Any = document
    for name in axis.field.split("."):
        value = getattr(value, name)
    return Position(value, document.id)


def _condition(axis: Axis, position: Position | None, width: Any) -> tuple[Document, Any]:
    """Return what documents of the next window meet, and the last value in it."""
    if position is not None and position.document_id is not None:
        equal = {axis.field: position.value, "_id": {"$gt": position.document_id}}
        return equal, position.value
    start, far = ("$lt", "$gte") if axis.is_down else ("$gt", "$lte")
    if position is None:
        value, start = axis.begin, f"{start}e"
    else:
        value = position.value
    edge = axis.step(value, width)
    return {axis.field: {start: value, far: edge}}, edge
