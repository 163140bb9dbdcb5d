"""The document of a batch: a list that was submitted, and how far its items are.

A batch is only described by facts that its documents hold: state and counts are derived, so that
they cannot disagree with its items.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from math import gcd
from typing import Self

from pydantic import ConfigDict, Field

from services.common.domain.batch_item import ItemOutcome
from services.common.domain.provenance import SourceKind
from services.common.domain.records import Record, required
from services.common.domain.tables.table import Report

_GOLDEN = 0.6180339887
_LONG_AGO = datetime.fromtimestamp(0, tz=UTC)


class BatchState(StrEnum):
    """Where a batch stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class RetryScope(StrEnum):
    """Which failed items a retry takes."""

    TRANSIENT = "transient"
    """Those whose reason may have passed: timeouts, 429, 5xx, …"""
    ALL = "all"


@dataclass(frozen=True)
class Counts:
    """How many items have each outcome, and when the last was done."""

    by_outcome: Mapping[ItemOutcome, int]
    finished_at: datetime | None
    failure_codes: Mapping[str, int] = field(default_factory=dict)
    """Why items failed."""
    size_bytes: int = 0
    """Of the images together."""

    @property
    def queued(self) -> int:
        """Items that are not done."""
        return self.by_outcome[ItemOutcome.QUEUED]

    @property
    def total(self) -> int:
        """All items."""
        return sum(self.by_outcome.values())

    @property
    def is_done(self) -> bool:
        """Whether there are items, and each has its outcome."""
        return not self.queued and self.total > 0

    def __add__(self, other: "Counts") -> "Counts":
        """Return the counts of both together."""
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


NOTHING = Counts(dict.fromkeys(ItemOutcome, 0), None)


class RejectedRow(Record):
    """A row of a list that is not taken."""

    model_config = ConfigDict(extra="ignore", from_attributes=True)

    line: int
    """From 1; in a JSON list the place of the item."""
    value: str
    """The row, cut short."""
    code: str = Field(examples=["unsupported_scheme"])
    detail: str


class PageProgress(Record):
    """How far the pages of a list are published, and what is counted of them for good."""

    count: int = 0
    next: int = 0
    """Pages that are published, in the order of ``Batch.page_at``."""
    published: int = 0
    """Items that are published."""
    counted: tuple[int, ...] = ()
    """Pages whose items all have an outcome; the following holds their sums."""
    kept: dict[ItemOutcome, int] = Field(default_factory=lambda: dict(NOTHING.by_outcome))
    failure_codes: dict[str, int] = Field(default_factory=dict)
    size_bytes: int = 0
    finished_at: datetime | None = None

    @property
    def counts(self) -> Counts:
        """What is counted for good."""
        kept = {outcome: self.kept.get(outcome, 0) for outcome in ItemOutcome}
        return Counts(kept, self.finished_at, self.failure_codes, self.size_bytes)


class DispatchState(Record):
    """Who publishes a batch's items, and how far that is."""

    done: bool = False
    after: str | None = None
    """Queued items are published once more, from behind this ``_id``; None: they are not."""
    version: int = 0
    """Goes up with each retry and cancellation: progress of before is not written."""
    owner: str | None = None
    leased_until: datetime = _LONG_AGO


class Batch(Record):
    """A list that was submitted: a document of ``batches``."""

    model_config = ConfigDict(extra="ignore") | required(
        "_id", "created_at", "loaded", "pages", "dispatch"
    )

    id: str = Field(alias="_id")
    """Sorts by time."""
    name: str | None = None
    """For people."""
    list_url: str | None = None
    """Where its list is from, without secrets; None where the list itself was sent."""
    kind: SourceKind = "url"
    """By which way its images come."""
    collection: str | None = None
    """What they belong to; earlier versions wrote none."""
    licence: str | None = None
    """Of the images whose row says none."""
    by: str | None = None
    """Who submitted it."""
    created_at: datetime
    digest: str = ""
    """Tells what was sent from anything else: a list, or the address of one."""
    content_digest: str = ""
    """Tells the list itself from another at the same address."""
    idempotency_key: str | None = None
    """Chosen by the client; missing where it chose none, as its index is unique."""
    loaded: bool = False
    """Whether its whole list is written down."""
    touched_at: datetime | None = None
    """When its list was last in use, until it is loaded."""
    is_given_up: bool = False
    """Whether it is cleared, as its list never came whole."""
    cancelled_at: datetime | None = None
    requeue: RetryScope | None = None
    """A retry that is asked for and not carried out."""
    accepted: int = 0
    """Items."""
    rejected: tuple[RejectedRow, ...] = ()
    """The first rows that were not taken."""
    rejected_count: int = 0
    reading: Report = Field(default_factory=Report)
    """How the list was read."""
    pages: PageProgress = PageProgress()
    dispatch: DispatchState = DispatchState()

    @property
    def outcome_of_rest(self) -> ItemOutcome:
        """Outcome of the items that have no document."""
        is_cancelled = self.cancelled_at is not None
        return ItemOutcome.CANCELLED if is_cancelled else ItemOutcome.QUEUED

    def page_at(self, position: int) -> int:
        """Return which page is published at a position.

        Multiples of the golden section spread evenly over the list from the start, so that a list
        sorted by host is not fetched host by host.
        """
        count = self.pages.count
        stride = max(1, round(count * _GOLDEN))
        while gcd(stride, count) != 1:
            stride += 1
        return position * stride % count

    def uncounted_pages(self, begun: int) -> list[int]:
        """Return the first ``begun`` pages, in the order in which they are published.

        Without those that are counted for good.
        """
        counted = set(self.pages.counted)
        numbers = map(self.page_at, range(min(begun, self.pages.count)))
        return [number for number in numbers if number not in counted]

    def completed(self, counts: Counts) -> Counts:
        """Return counts in which the items without a document are queued, or cancelled."""
        by_outcome = dict(counts.by_outcome)
        by_outcome[self.outcome_of_rest] += self.accepted - counts.total
        return replace(counts, by_outcome=by_outcome)

    def state(self, counts: Counts) -> BatchState:
        """Return where it stands, its items being counted."""
        if self.cancelled_at is not None:
            return BatchState.CANCELLED
        return BatchState.RUNNING if counts.queued else BatchState.COMPLETED

    def page_published(self, items: int) -> Self:
        """Return it after its next page was published, or after there was none."""
        following = min(self.pages.next + 1, self.pages.count)
        published = self.pages.published + items
        return self.having(
            pages=self.pages.having(next=following, published=published),
            dispatch=self.dispatch.having(done=following == self.pages.count),
        )

    def published_again(self, up_to: str | None) -> Self:
        """Return it after queued items were published once more; None: all of them."""
        is_done = up_to is None and self.pages.next >= self.pages.count
        return self.having(dispatch=self.dispatch.having(done=is_done, after=up_to))

    def requeued(self) -> Self:
        """Return it after a retry was carried out: what is queued is to be published."""
        return self.having(requeue=None, dispatch=self.dispatch.having(after=""))

    def dispatched(self) -> Self:
        """Return it as one of which nothing is to be published any more."""
        return self.having(dispatch=self.dispatch.having(done=True))
