"""Compare an object with its document: pure decisions."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from services.common.adapters.synthetic_events import time_of
from services.common.domain.image import ImageDocument
from services.common.domain.keys import FETCHED, LINES
from services.common.domain.objects import ObjectInfo
from services.common.domain.page_document import PageDocument

Document = ImageDocument | PageDocument

_MILLISECOND = timedelta(milliseconds=1)

FEWEST_REMOVALS, MOST_REMOVALS = 5, 10_000
"""Bounds of the removals that a pass queues by itself; see ``most_removals``."""
REMOVED_SHARE = 0.01


class State(StrEnum):
    """Result of comparing one key."""

    IN_ORDER = "in_order"
    MISSING = "missing"
    """An object without a document."""
    CHANGED = "changed"
    """An object newer than its document, or restored."""
    GONE = "gone"
    """A document whose object is missing, and that is not marked removed."""
    REMOVED = "removed"
    """A document marked removed: the proof of a removal."""
    YOUNG = "young"
    """Different, but changed so recently that its event is in flight."""
    PARKED = "parked"
    """Different, and its event is parked."""
    FOLDER = "folder"
    """The console's empty folder, not an image."""


TO_QUEUE = frozenset({State.MISSING, State.CHANGED, State.GONE})


class KeyRange(NamedTuple):
    """Keys behind the first one, up to the last one; empty: no limit on this side."""

    after: str
    upto: str


MOST_PARTS = 256


class BucketPart(NamedTuple):
    """One of several parts of a bucket's keys, which together are all keys."""

    number: int = 0
    """From 0."""
    of: int = 1
    """Up to ``MOST_PARTS``."""

    @property
    def ranges(self) -> Sequence[KeyRange]:
        """Its keys; those that begin with a hash are divided by its first two digits."""
        if self.of == 1:
            return (KeyRange("", ""),)
        steps = [f"{MOST_PARTS * number // self.of:02x}" for number in range(self.of)]
        cuts = ["", *(f"{prefix}{step}" for prefix in (FETCHED, LINES) for step in steps), ""]
        return [KeyRange(after, upto) for after, upto in pairwise(cuts)][self.number :: self.of]

    def most_removals(self, documents: int) -> int:
        """Return the number of removals that are queued without confirmation: 1 %, within bounds.

        All parts together may queue no more than a pass of the whole bucket.

        Args:
            documents: Number of its images that are not removed.
        """
        fewest, most = FEWEST_REMOVALS // self.of, MOST_REMOVALS // self.of
        return min(most, max(fewest, int(documents * REMOVED_SHARE)))


WHOLE = BucketPart()


class Pair(NamedTuple):
    """An object and a document of the same key; at least one exists."""

    key: str
    listed: ObjectInfo | None
    document: Document | None


async def pairs(
    objects: AsyncIterator[ObjectInfo], documents: AsyncIterator[Document]
) -> AsyncIterator[Pair]:
    """Merge two streams that are sorted by key, in constant memory.

    Both are sorted by UTF-8 bytes. With another order a pair would come as two halves, both of
    which are looked up again before anything is done.
    """
    listed = await anext(objects, None)
    document = await anext(documents, None)
    while listed is not None and document is not None:
        left, right = _order(listed.key), _order(document.key)
        if left == right:
            yield Pair(listed.key, listed, document)
        elif left < right:
            yield Pair(listed.key, listed, None)
        else:
            yield Pair(document.key, None, document)
        if left <= right:
            listed = await anext(objects, None)
        if right <= left:
            document = await anext(documents, None)
    while listed is not None:
        yield Pair(listed.key, listed, None)
        listed = await anext(objects, None)
    while document is not None:
        yield Pair(document.key, None, document)
        document = await anext(documents, None)


def judge(pair: Pair, cutoff: datetime) -> State:
    """Decide about a pair; changes after ``cutoff`` are in flight."""
    state = _difference(pair)
    if state not in TO_QUEUE:
        return state
    stored_at = pair.listed.stored_at if pair.listed is not None else None
    sequencer = pair.document.sequencer if pair.document is not None else None
    changes = [stored_at, time_of(sequencer) if sequencer else None]
    is_young = any(change is not None and change > cutoff for change in changes)
    return State.YOUNG if is_young else state


def _difference(pair: Pair) -> State:
    listed, document = pair.listed, pair.document
    says_removed = document is not None and document.status == "removed"
    if listed is None:
        return State.REMOVED if says_removed else State.GONE
    if listed.key.endswith("/") and not listed.size:
        return State.FOLDER
    if document is None:
        return State.MISSING
    if says_removed or document.etag != listed.etag or _is_later(listed, document):
        return State.CHANGED
    return State.IN_ORDER


def _is_later(listed: ObjectInfo, document: Document) -> bool:
    """Whether the object was rewritten: the same bytes may come from another source."""
    sequencer = document.sequencer
    return sequencer is None or listed.stored_at - time_of(sequencer) >= _MILLISECOND


def _order(key: str) -> bytes:
    return key.encode("utf-8", errors="surrogatepass")
