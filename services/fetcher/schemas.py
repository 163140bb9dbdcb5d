"""Responses of the API."""

from collections import Counter
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from services.common.domain.batch import Batch, BatchState, RejectedRow
from services.common.domain.batch_item import BatchItem, ItemOutcome
from services.common.domain.provenance import DEFAULT_COLLECTION
from services.common.domain.redaction import hide_digest
from services.common.domain.tables.report import Report
from services.fetcher.batches.service import CountedBatch
from services.fetcher.batches.submissions import ListPreview
from services.fetcher.politeness.host import DelayReason
from services.fetcher.sources.addresses import name_of


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class Submitted(_Model):
    """An accepted list, stored durably."""

    batch_id: str = Field(examples=["20261124T093000-5f3a9c2e17b4"])
    accepted: int = Field(description="Items to be downloaded.")
    rejected: list[RejectedRow] = Field(description="Rejected rows; the first 1,000.")
    rejected_count: int = Field(description="Number of rejected rows.")
    status_url: str = Field(description="Path of the batch.")
    encoding: str | None = Field(
        description="Detected encoding; if not utf-8-sig, check the accents of annotations."
    )
    reading: Report


class Preview(_Model):
    """Result of a dry run; nothing was stored."""

    rows: list[dict[str, Any]] = Field(description="The first 20 that would be accepted.")
    accepted: int
    rejected: list[RejectedRow] = Field(description="Rejected rows; the first 1,000.")
    rejected_count: int
    reading: Report


class ItemCounts(_Model):
    """Number of items by outcome; the sum is the number of accepted items."""

    queued: int
    stored: int
    unchanged: int
    failed: int
    cancelled: int


class BatchStatus(_Model):
    """A batch."""

    batch_id: str
    name: str | None
    collection: str = Field(description="Collection of its images.")
    kind: str = Field(description="Origin: url, archive, folder or upload.")
    list_url: str | None = Field(description="URL of the list, without its query.")
    state: BatchState
    counts: ItemCounts
    failure_codes: dict[str, int] = Field(description="Reasons of failed items.")
    size_bytes: int = Field(description="Of its images together.")
    created_at: datetime
    finished_at: datetime | None = Field(description="When its last item was done.")


class BatchDetails(BatchStatus):
    """A batch, and how its list was read."""

    reading: Report
    rejected_count: int = Field(description="Number of rejected rows.")
    rejected_codes: dict[str, int] = Field(description="Reasons of the first 1,000 of them.")


class BatchPage(_Model):
    """Batches, newest first."""

    batches: list[BatchStatus]
    next: str | None = Field(description="Cursor of the next page.")


class ItemStatus(_Model):
    """An item of a batch; a queued one with a code waits for its next attempt."""

    url: str = Field(
        description="Without its secrets; failed.csv has it whole. What came in a file that was "
        "sent has none: it is shown as `submitted:` and its name there."
    )
    name: str | None = Field(
        None,
        exclude_if=lambda name: name is None,
        description="Of the file, or path of the member; missing: it has a URL.",
    )
    outcome: ItemOutcome
    code: str | None
    detail: str | None
    key: str | None = Field(description="Of its object in the bucket.")
    is_page: bool | None = Field(
        None,
        exclude_if=lambda is_page: not is_page,
        description="Whether it is a page: its key is of the bucket of pages.",
    )
    attempts: int


class ItemPage(_Model):
    """Items in the list's order."""

    items: list[ItemStatus]
    next: str | None = Field(description="Cursor of the next page.")


class HostStatus(_Model):
    """A host whose jobs are delayed, or fail if it is unresponsive."""

    host: str
    reason: DelayReason
    until: datetime = Field(description="End of the pause.")
    crawl_delay: float = Field(description="Its Crawl-delay in seconds.")


class HostPage(_Model):
    """Paused hosts, the longest pause first."""

    hosts: list[HostStatus]


class Retried(_Model):
    """Result of a retry."""

    batch_id: str
    retried: int
    status_url: str


def to_submitted(batch: Batch, status_url: str) -> Submitted:
    """Convert."""
    return Submitted(
        batch_id=batch.id,
        accepted=batch.accepted,
        rejected=list(batch.rejected),
        rejected_count=batch.rejected_count,
        status_url=status_url,
        encoding=batch.reading.encoding,
        reading=batch.reading,
    )


def to_preview(preview: ListPreview) -> Preview:
    """Convert."""
    return Preview(
        rows=[
            {
                "line": row.line,
                "url": hide_digest(row.url),
                **({"name": name} if (name := name_of(row.url)) else {}),
                "annotation": row.annotation,
            }
            for row in preview.first
        ],
        accepted=preview.accepted,
        rejected=preview.rejections.first,
        rejected_count=preview.rejections.count,
        reading=preview.reading,
    )


def to_status(counted: CountedBatch) -> BatchStatus:
    """Convert a batch; a running one has no end time."""
    batch, counts = counted.batch, counted.counts
    return BatchStatus(
        batch_id=batch.id,
        name=batch.name,
        collection=batch.collection or DEFAULT_COLLECTION,
        kind=batch.kind,
        list_url=batch.list_url,
        state=counted.state,
        counts=ItemCounts.model_validate(counts.by_outcome),
        failure_codes=dict(counts.failure_codes),
        size_bytes=counts.size_bytes,
        created_at=batch.created_at,
        finished_at=counts.finished_at if counts.queued == 0 else None,
    )


def to_details(counted: CountedBatch) -> BatchDetails:
    """Convert a batch with its list's report."""
    batch = counted.batch
    return BatchDetails(
        **vars(to_status(counted)),
        reading=batch.reading,
        rejected_count=batch.rejected_count,
        rejected_codes=Counter(each.code for each in batch.rejected),
    )


def to_item(item: BatchItem) -> ItemStatus:
    """Convert."""
    return ItemStatus(
        url=item.source_url or "",
        name=name_of(item.url),
        outcome=item.outcome,
        code=item.code,
        detail=item.detail,
        key=item.key,
        is_page=item.is_page,
        attempts=item.attempts,
    )
