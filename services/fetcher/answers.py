"""Convert documents to responses of the API; fields that are not set are not sent."""

from collections import Counter
from typing import Any

from services.common.domain.batch import Batch
from services.common.domain.batch_item import BatchItem
from services.common.domain.fetcher_answers import (
    BatchDetails,
    BatchStatus,
    ItemCounts,
    ItemStatus,
    Preview,
    PreviewRow,
    Submission,
)
from services.common.domain.provenance import DEFAULT_COLLECTION
from services.common.domain.redaction import hide_digest
from services.fetcher.batches.service import CountedBatch
from services.fetcher.batches.submissions import ListPreview
from services.fetcher.sources.addresses import name_of


def to_submission(batch: Batch, status_url: str) -> Submission:
    """Convert an accepted batch."""
    return Submission(
        batch_id=batch.id,
        accepted=batch.accepted,
        rejected=list(batch.rejected),
        rejected_count=batch.rejected_count,
        status_url=status_url,
        encoding=batch.reading.encoding,
        reading=batch.reading,
    )


def to_preview(preview: ListPreview) -> Preview:
    """Convert what a dry run found."""
    return Preview(
        rows=[
            PreviewRow(
                line=row.line,
                url=hide_digest(row.url),
                annotation=row.annotation,
                **_present(name=name_of(row.url)),
            )
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
    """Convert an item of a batch."""
    return ItemStatus(
        url=item.source_url or "",
        outcome=item.outcome,
        code=item.code,
        detail=item.detail,
        key=item.key,
        attempts=item.attempts,
        **_present(name=name_of(item.url), is_page=item.is_page),
    )


def _present(**fields: Any) -> dict[str, Any]:
    """Return those that say something; the others are not sent."""
    return {name: value for name, value in fields.items() if value}
