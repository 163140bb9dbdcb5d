"""The document of a batch item: source and outcome of a download."""

from datetime import datetime
from enum import StrEnum

from pydantic import ConfigDict, Field, JsonValue

from services.common.domain.details import Details, Split
from services.common.domain.page import PageOfLine
from services.common.domain.provenance import SUBMITTED, Provenance, SourceKind
from services.common.domain.records import Record, required
from services.common.domain.redaction import beginning


class ItemOutcome(StrEnum):
    """Outcome of a batch item."""

    QUEUED = "queued"
    STORED = "stored"
    UNCHANGED = "unchanged"
    """The same image is stored already, with URL, annotation and collection."""
    FAILED = "failed"
    CANCELLED = "cancelled"


class BatchItem(Record):
    """One item of a batch: a document of ``fetches``.

    Fields that were not projected have their defaults.
    """

    model_config = ConfigDict(extra="ignore") | required("_id", "batch_id", "url", "outcome")

    id: str = Field(alias="_id")
    """``batch_id/line``: sorted like the list, and stable."""
    batch_id: str = ""
    page: str = ""
    """``_id`` in ``lists``."""
    url: str = ""
    """As requested, with secrets."""
    source_url: str | None = None
    """Redacted; earlier versions did not write it."""
    host: str | None = None
    """Host, or submitted file, of the item."""
    kind: SourceKind = "url"
    collection: str | None = None
    name: str | None = None
    """Of the file, or path of the member, as given."""
    annotation: str | None = None
    group: str | None = None
    split: Split | None = None
    licence: str | None = None
    metadata: dict[str, JsonValue] | None = None
    how: str | None = None
    """Of a text from an export: how it came about there."""
    is_page: bool | None = None
    """Whether ``key`` is of the bucket of pages; None: of that of images."""
    by: str | None = None
    """Submitter."""
    page_line: PageOfLine | None = None
    """Of a line of a page: where it was cut out, once that is known."""
    outcome: ItemOutcome = ItemOutcome.QUEUED
    code: str | None = None
    """Result or error; of a queued item that of its last attempt."""
    detail: str | None = None
    is_transient: bool = False
    """Whether a retry may succeed."""
    http_status: int | None = None
    size_bytes: int | None = None
    duration_seconds: float | None = None
    sha256: str | None = None
    key: str | None = None
    """Of its object in the bucket."""
    validators: dict[str, str | None] | None = None
    """For the next conditional request."""
    attempts: int = 0
    finished_at: datetime | None = None

    @property
    def is_queued(self) -> bool:
        """Whether it has no outcome yet."""
        return self.outcome is ItemOutcome.QUEUED

    @property
    def details(self) -> Details:
        """Further columns of its list."""
        return Details.from_fields(vars(self))

    def provenance(self, fetched_at: datetime | None) -> Provenance:
        """Return the provenance of its image.

        The URL is redacted by the fetcher; the query of an older, unredacted one is removed.
        """
        url = self.source_url or beginning(self.url)
        return Provenance(
            source_url=None if url.startswith(SUBMITTED) else url,
            batch_id=self.batch_id,
            annotation=self.annotation,
            fetched_at=fetched_at,
            fetch_id=self.id,
            kind=self.kind,
            collection=self.collection,
            name=self.name,
            details=self.details,
            by=self.by,
            page=self.page_line,
        )
