"""The batch document: a submitted list and its progress.

State and counts are derived from documents, so that they always match the items.
"""

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from math import gcd
from typing import Any, Self

from pydantic import ConfigDict, Field

from services.common.domain.batch_item import ItemOutcome
from services.common.domain.provenance import SourceKind
from services.common.domain.records import Record, required
from services.common.domain.tables.report import Report

_GOLDEN = 0.6180339887
_LONG_AGO = datetime.fromtimestamp(0, tz=UTC)

ListRow = tuple[int, str, str | None, dict[str, Any]]
"""Line, URL, annotation, and the fields of ``Details`` that are said."""
_FAST = 1


class BatchState(StrEnum):
    """State of a batch."""

    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class RetryScope(StrEnum):
    """Selection of failed items for a retry."""

    TRANSIENT = "transient"
    """Transient failures: timeouts, 429, 5xx, …"""
    ALL = "all"


@dataclass(frozen=True)
class Counts:
    """Number of items by outcome, and the time of the last one."""

    by_outcome: Mapping[ItemOutcome, int]
    finished_at: datetime | None
    failure_codes: Mapping[str, int] = field(default_factory=dict)
    """Reasons of failures."""
    size_bytes: int = 0
    """Of the images together."""

    @property
    def queued(self) -> int:
        """Unfinished items."""
        return self.by_outcome[ItemOutcome.QUEUED]

    @property
    def total(self) -> int:
        """All items."""
        return sum(self.by_outcome.values())

    @property
    def is_done(self) -> bool:
        """Whether there are items, all with an outcome."""
        return not self.queued and self.total > 0

    def __add__(self, other: "Counts") -> "Counts":
        """Return the sum of both."""
        times = [each for each in (self.finished_at, other.finished_at) if each is not None]
        return Counts(
            {
                outcome: count + other.by_outcome[outcome]
                for outcome, count in self.by_outcome.items()
            },
            max(times, default=None),
            Counter(self.failure_codes) + Counter(other.failure_codes),
            self.size_bytes + other.size_bytes,
        )


NO_ITEMS = Counts(dict.fromkeys(ItemOutcome, 0), None)


class RejectedRow(Record):
    """A rejected row of a list."""

    model_config = ConfigDict(extra="ignore", from_attributes=True) | required(
        "line", "value", "code", "detail"
    )

    line: int = 0
    """From 1; in a JSON list the index of the item."""
    value: str = ""
    """The row, cut short."""
    code: str = Field("", examples=["unsupported_scheme"])
    detail: str = ""


class PageProgress(Record):
    """Publishing progress of a list's pages, and totals of finished ones."""

    count: int = 0
    next: int = 0
    """Published pages, in the order of ``Batch.page_at``."""
    published: int = 0
    """Published items."""
    counted: tuple[int, ...] = ()
    """Finished pages, whose sums follow."""
    kept: dict[ItemOutcome, int] = Field(default_factory=lambda: dict(NO_ITEMS.by_outcome))
    failure_codes: dict[str, int] = Field(default_factory=dict)
    size_bytes: int = 0
    finished_at: datetime | None = None

    @property
    def counts(self) -> Counts:
        """Totals of finished pages."""
        kept = {outcome: self.kept.get(outcome, 0) for outcome in ItemOutcome}
        return Counts(kept, self.finished_at, self.failure_codes, self.size_bytes)


class DispatchState(Record):
    """Lease and position of publishing."""

    done: bool = False
    after: str | None = None
    """Queued items are redispatched after this ``_id``; None: not."""
    version: int = 0
    """Incremented by each retry and cancellation, to reject outdated progress."""
    owner: str | None = None
    leased_until: datetime = _LONG_AGO


class Batch(Record):
    """A submitted list: a document of ``batches``."""

    model_config = ConfigDict(extra="ignore") | required(
        "_id", "created_at", "loaded", "pages", "dispatch"
    )

    id: str = Field(alias="_id")
    """Sorts by time."""
    name: str | None = None
    """For display."""
    list_url: str | None = None
    """Redacted URL of its list; None if the list was uploaded."""
    kind: SourceKind = "url"
    """Origin of its images."""
    collection: str | None = None
    """Collection of its images; earlier versions wrote none."""
    is_collection_given: bool = False
    """Whether the submitter named it; otherwise images of an export keep theirs."""
    licence: str | None = None
    """Default licence of its images."""
    by: str | None = None
    """Submitter."""
    created_at: datetime
    digest: str = ""
    """Digest of the request: of the list, or of its URL."""
    content_digest: str = ""
    """Digest of the list itself."""
    idempotency_key: str | None = None
    """Chosen by the client; missing if not set, as its index is unique."""
    loaded: bool = False
    """Whether its list is complete."""
    touched_at: datetime | None = None
    """Heartbeat of its list, until it is complete."""
    is_given_up: bool = False
    """Whether it is deleted as incomplete."""
    cancelled_at: datetime | None = None
    requeue: RetryScope | None = None
    """A requested retry that is not carried out yet."""
    accepted: int = 0
    """Items."""
    rejected: tuple[RejectedRow, ...] = ()
    """The first rejected rows."""
    rejected_count: int = 0
    reading: Report = Field(default_factory=Report)
    """Reading report of the list."""
    pages: PageProgress = PageProgress()
    dispatch: DispatchState = DispatchState()

    @property
    def outcome_of_rest(self) -> ItemOutcome:
        """Outcome of the items without document."""
        is_cancelled = self.cancelled_at is not None
        return ItemOutcome.CANCELLED if is_cancelled else ItemOutcome.QUEUED

    def page_at(self, position: int) -> int:
        """Return the page that is published at a position.

        Multiples of the golden section spread evenly over the list from the start, so that a list
        sorted by host is not fetched host by host.
        """
        count = self.pages.count
        stride = max(1, round(count * _GOLDEN))
        while gcd(stride, count) != 1:
            stride += 1
        return position * stride % count

    def uncounted_pages(self, begun: int) -> list[int]:
        """Return the first ``begun`` pages in publishing order.

        Without those in the totals.
        """
        counted = set(self.pages.counted)
        numbers = map(self.page_at, range(min(begun, self.pages.count)))
        return [number for number in numbers if number not in counted]

    def completed(self, counts: Counts) -> Counts:
        """Return counts with items without document as queued or cancelled."""
        by_outcome, rest = dict(counts.by_outcome), self.accepted - counts.total
        by_outcome[self.outcome_of_rest] += rest
        times = (counts.finished_at, self.cancelled_at if rest else None)
        finished_at = max((each for each in times if each is not None), default=None)
        return replace(counts, by_outcome=by_outcome, finished_at=finished_at)

    def state(self, counts: Counts) -> BatchState:
        """Return its state, given the counts of its items."""
        if self.cancelled_at is not None:
            return BatchState.CANCELLED
        return BatchState.RUNNING if counts.queued else BatchState.COMPLETED

    def page_published(self, items: int) -> Self:
        """Return it after publishing its next page, if any."""
        following = min(self.pages.next + 1, self.pages.count)
        published = self.pages.published + items
        return self.having(
            pages=self.pages.having(next=following, published=published),
            dispatch=self.dispatch.having(done=following == self.pages.count),
        )

    def published_again(self, up_to: str | None) -> Self:
        """Return it after redispatching queued items; None: all of them."""
        is_done = up_to is None and self.pages.next >= self.pages.count
        return self.having(dispatch=self.dispatch.having(done=is_done, after=up_to))

    def requeued(self) -> Self:
        """Return it after a retry, with queued items to publish."""
        return self.having(requeue=None, dispatch=self.dispatch.having(after=""))

    def dispatched(self) -> Self:
        """Return it with nothing left to publish."""
        return self.having(dispatch=self.dispatch.having(done=True))


def page_id(batch_id: str, number: int) -> str:
    """``_id`` of the document of a page of a list, in ``lists``."""
    return f"{batch_id}/{number:06d}"


def number_of(identity: str) -> int:
    """Return the number of a page from its ``page_id``."""
    return int(identity.rpartition("/")[2])


def pack_rows(rows: Iterable[ListRow]) -> bytes:
    """Encode rows for storage."""
    short = [row if row[3] else row[:3] for row in rows]
    return zlib.compress(json.dumps(short, ensure_ascii=False).encode(), _FAST)


def unpack_rows(packed: bytes) -> list[ListRow]:
    """Decode stored rows."""
    rows = json.loads(zlib.decompress(packed))
    return [(line, url, text, *(more or ({},))) for line, url, text, *more in rows]
