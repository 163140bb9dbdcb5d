"""Requests and responses of the fetcher's HTTP API, for its clients."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.common.domain.tables.report import Report


class Rejection(BaseModel):
    """A rejected line of a list."""

    line: int | None = None
    value: str = ""
    code: str = ""
    detail: str = ""


class Problem(BaseModel):
    """Error of the fetcher (RFC 9457)."""

    status: int
    code: str
    detail: str = "no details"
    rejected: list[Rejection] = []
    """Rejected lines of a list."""


class Submission(BaseModel):
    """Response to a submission."""

    model_config = ConfigDict(extra="allow")

    batch_id: str
    accepted: int
    rejected: list[Rejection] = Field(default_factory=list)
    """The first ones, if there are very many."""
    rejected_count: int = 0
    status_url: str = ""
    reading: Report = Field(default_factory=Report)
    """Reading report of the list."""

    @model_validator(mode="after")
    def _count(self) -> Self:
        self.rejected_count = max(self.rejected_count, len(self.rejected))
        return self


class _Labelled(BaseModel):
    url: str
    name: str | None = None

    @property
    def label(self) -> str:
        """Displayed name."""
        return self.name or self.url


class PreviewRow(_Labelled):
    """A row of a dry run."""

    line: int
    annotation: str | None = None


class Preview(Submission):
    """Response to a dry run."""

    batch_id: str = ""
    rows: list[PreviewRow] = Field(default_factory=list)


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


class BatchStatus(BaseModel):
    """Progress of a batch."""

    model_config = ConfigDict(extra="allow")

    batch_id: str
    name: str | None = None
    collection: str = ""
    kind: str = ""
    list_url: str | None = None
    state: str
    created_at: datetime | None = None
    finished_at: datetime | None = None
    reading: Report | None = None
    """Reading report of its list; None in a page of batches."""
    rejected_count: int = 0
    rejected_codes: dict[str, int] = {}
    """Reasons of the first rejected rows."""
    counts: dict[str, int]
    failure_codes: dict[str, int] = {}
    size_bytes: int = 0

    @property
    def total(self) -> int:
        """Number of its items."""
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        """Number of items with an outcome."""
        return self.total - self.counts.get("queued", 0)

    @property
    def is_finished(self) -> bool:
        """Whether it is finished."""
        return self.state != "running"


class BatchPage(BaseModel):
    """Batches, newest first."""

    batches: list[BatchStatus]
    next: str | None = None
    """Cursor of the next page."""


class ItemStatus(_Labelled):
    """An item of a batch, with its outcome."""

    model_config = ConfigDict(extra="allow")

    outcome: str
    code: str | None = None
    detail: str | None = None
    key: str | None = None
    is_page: bool = False
    """Whether its key is of the bucket of pages."""
    attempts: int | None = None


class Retried(BaseModel):
    """Result of a retry."""

    retried: int
    """Items that are fetched again."""


class DelayedHost(BaseModel):
    """A paused host."""

    model_config = ConfigDict(extra="allow")

    host: str
    reason: str
    until: datetime


class HostPage(BaseModel):
    """Paused hosts."""

    hosts: list[DelayedHost]


class ItemPage(BaseModel):
    """Items of a batch, in the list's order."""

    items: list[ItemStatus]
    next: str | None = None
