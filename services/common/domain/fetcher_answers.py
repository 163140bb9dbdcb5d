"""Requests and responses of the fetcher's HTTP API, for the fetcher and its clients.

Clients accept further fields of a newer fetcher, and the lack of those of an older one.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from services.common.domain.batch import BatchState, RejectedRow
from services.common.domain.batch_item import ItemOutcome
from services.common.domain.records import required
from services.common.domain.tables.report import Report


class Problem(BaseModel):
    """Error of the fetcher (RFC 9457)."""

    status: int
    code: str
    detail: str = "no details"
    rejected: list[RejectedRow] = []
    """Rejected lines of a list."""


class _Answer(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )


class Submission(_Answer):
    """An accepted list, stored durably."""

    batch_id: str = Field(examples=["20261124T093000-5f3a9c2e17b4"])
    accepted: int
    """Items to be downloaded."""
    rejected: list[RejectedRow] = []
    """Rejected rows; the first 1,000."""
    rejected_count: int = 0
    """Number of rejected rows."""
    status_url: str = ""
    """Path of the batch."""
    encoding: str | None = None
    """Detected encoding; if not utf-8-sig, check the accents of annotations."""
    reading: Report = Field(default_factory=Report)

    @model_validator(mode="after")
    def _count(self) -> Self:
        self.rejected_count = max(self.rejected_count, len(self.rejected))
        return self


class _Labelled(_Answer):
    url: str = Field(
        description="Without its secrets; failed.csv has it whole. What came in a file that was "
        "sent has none: it is shown as `submitted:` and its name there."
    )
    name: str | None = None
    """Of the file, or path of the member; missing: it has a URL."""

    @property
    def label(self) -> str:
        """Displayed name."""
        return self.name or self.url


class PreviewRow(_Labelled):
    """A row of a dry run."""

    model_config = required("line", "url", "annotation")

    line: int
    annotation: str | None = None


class Preview(Submission):
    """Result of a dry run; nothing was stored."""

    batch_id: str = Field("", exclude=True)
    status_url: str = Field("", exclude=True)
    encoding: str | None = Field(None, exclude=True)
    rows: list[PreviewRow] = []
    """The first 20 that would be accepted."""


@dataclass(frozen=True)
class ListRequest:
    """Parameters of a submission; see the fetcher's API."""

    name: str | None = None
    collection: str | None = None
    encoding: str | None = None
    url_column: str | None = None
    text_column: str | None = None
    group_column: str | None = None
    licence: str | None = None
    by: str | None = None
    kind: str | None = None
    strict: bool = False
    dry_run: bool = False
    pages: bool = False

    @property
    def params(self) -> dict[str, str]:
        """As query parameters."""
        given = {**asdict(self), "name": None}  # sent in the body
        return {name: str(value) for name, value in given.items() if value}


AS_FOUND = ListRequest()


class ItemCounts(_Answer):
    """Number of items by outcome; the sum is the number of accepted items."""

    queued: int = 0
    stored: int = 0
    unchanged: int = 0
    failed: int = 0
    cancelled: int = 0


class BatchStatus(_Answer):
    """A batch."""

    batch_id: str
    name: str | None = None
    collection: str = ""
    """Collection of its images."""
    kind: str = ""
    """Origin: url, archive, folder or upload."""
    list_url: str | None = None
    """URL of the list, without its query."""
    state: BatchState | SkipJsonSchema[str]
    counts: ItemCounts
    failure_codes: dict[str, int] = {}
    """Reasons of failed items."""
    size_bytes: int = 0
    """Of its images together."""
    created_at: datetime | SkipJsonSchema[None] = None
    finished_at: datetime | None = None
    """When its last item was done."""

    @property
    def total(self) -> int:
        """Number of its items."""
        return sum(dict(self.counts).values())

    @property
    def done(self) -> int:
        """Number of items with an outcome."""
        return self.total - self.counts.queued

    @property
    def is_finished(self) -> bool:
        """Whether it is finished."""
        return self.state != BatchState.RUNNING


class BatchDetails(BatchStatus):
    """A batch, and how its list was read."""

    reading: Report | SkipJsonSchema[None] = None
    rejected_count: int = 0
    """Number of rejected rows."""
    rejected_codes: dict[str, int] = {}
    """Reasons of the first 1,000 of them."""


class BatchPage(_Answer):
    """Batches, newest first."""

    batches: list[BatchStatus]
    next: str | None = None
    """Cursor of the next page."""


class ItemStatus(_Labelled):
    """An item of a batch; a queued one with a code waits for its next attempt."""

    model_config = required("url", "outcome", "code", "detail", "key", "attempts")

    outcome: ItemOutcome | SkipJsonSchema[str]
    code: str | None = None
    detail: str | None = None
    key: str | None = None
    """Of its object in the bucket."""
    is_page: bool = False
    """Whether it is a page: its key is of the bucket of pages."""
    attempts: int | SkipJsonSchema[None] = None


class ItemPage(_Answer):
    """Items in the list's order."""

    items: list[ItemStatus]
    next: str | None = None
    """Cursor of the next page."""


class DelayReason(StrEnum):
    """Reason of a pause."""

    THROTTLED = "throttled"
    """429, 503 or ``Retry-After``."""
    UNRESPONSIVE = "silent"
    """No response."""
    CRAWL_DELAY = "crawl_delay"
    """Its ``Crawl-delay`` is long."""


class HostStatus(_Answer):
    """A host whose jobs are delayed, or fail if it is unresponsive."""

    host: str
    reason: DelayReason | SkipJsonSchema[str]
    until: datetime
    """End of the pause."""
    crawl_delay: float = 0.0
    """Its Crawl-delay in seconds."""


class HostPage(_Answer):
    """Paused hosts, the longest pause first."""

    hosts: list[HostStatus]


class Retried(_Answer):
    """Result of a retry."""

    batch_id: str = ""
    retried: int
    status_url: str = ""
