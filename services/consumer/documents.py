"""What an event or a reading makes of the document of an image: pure decisions.

Each is made about the document as it is, and made again where another writer was faster.

See docs/decisions/0002-at-least-once-and-idempotent.md.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, get_args

from services.common.domain.accuracy import similarity
from services.common.domain.annotation_history import Annotations
from services.common.domain.events import ObjectEvent, sequence_order
from services.common.domain.image import FORGOTTEN, Decision, ImageDocument
from services.common.domain.jobs import RepredictJob
from services.common.domain.provenance import Provenance
from services.common.domain.records import Prediction, Rejection

Code = Literal[
    "predicted",
    "repredicted",
    "rejected",
    "duplicate",
    "stale",
    "removed",
    "forgotten",
    "gone",
    "folder",
    "ignored",
]
"""What became of an event or a job."""
HANDLED = frozenset(get_args(Code))
"""Codes that the work on a delivery can end with."""
NONE_KEPT = Annotations()


@dataclass(frozen=True)
class Reading:
    """What came of reading an object's bytes."""

    etag: str
    size: int
    content_type: str | None
    sha256: str | None
    """Hexadecimal; None where the object was too large to read."""
    result: Prediction | Rejection
    width: int | None = None
    """Pixels; None for a rejection."""
    height: int | None = None

    @property
    def is_forgotten(self) -> bool:
        """Whether these bytes must not be stored."""
        return isinstance(self.result, Rejection) and self.result.code == FORGOTTEN


def is_older(event: ObjectEvent, document: ImageDocument) -> bool:
    """Whether ``document`` already shows a later state of the object than ``event``."""
    if not document.sequencer:
        return False
    return sequence_order(event.sequencer) < sequence_order(document.sequencer)


def needs_reading(event: ObjectEvent, document: ImageDocument) -> bool:
    """Whether the object's bytes must be read and recognised to decide about ``event``."""
    if is_older(event, document):
        return False
    return document.status != "predicted" or document.etag != event.etag


def provenance_of(
    reading: Reading | None, event: ObjectEvent, provenance: Provenance
) -> Provenance:
    """Return what an event says of the bytes that were read.

    Where the object was written again since, the text that came with its first bytes is no label
    of the others; the event of those follows.
    """
    if reading is None or event.etag in {None, reading.etag}:
        return provenance
    return replace(provenance, annotation=None)


def stored(
    document: ImageDocument,
    event: ObjectEvent,
    provenance: Provenance,
    reading: Reading | None,
    now: datetime,
    *,
    kept: Annotations = NONE_KEPT,
) -> Decision[Code]:
    """Decide what an object that was written makes of its document.

    Args:
        document: As it is.
        event: That the object was written.
        provenance: Where the event says it is from.
        reading: Of its bytes; None where ``needs_reading`` says that none is needed.
        now: The time.
        kept: The annotations of the bytes that were read, from when they were here before.
    """
    sourced = document.with_source(provenance, is_repeated=event.sequencer == document.sequencer)
    if is_older(event, document):
        # Late, but where the image came from is still owed
        return Decision("stale", _with_late_text(sourced, event, provenance, now))
    if reading is not None and reading.is_forgotten:
        return refused(_after_event(sourced, event, now), reading, now)
    annotations = document.annotations
    if reading is not None:
        annotations = _of_bytes(document, reading, kept, now)
    annotations = annotations.with_given(provenance, now)
    if sourced.placeholder:
        annotations = annotations.without_dispute(now)
    after = _after_event(sourced.with_annotations(annotations), event, now)
    if document.removed_at is not None:
        after = after.having(removed_at=None)
    if reading is None:
        return Decision("duplicate", after)
    if document.etag != reading.etag:
        after = after.without_history()
    code: Code = "predicted" if isinstance(reading.result, Prediction) else "rejected"
    return Decision(code, _with_reading(after, reading))


def removed(document: ImageDocument, event: ObjectEvent, now: datetime) -> Decision[Code]:
    """Decide what a removal makes of a document: what was read goes, where it came from stays."""
    if is_older(event, document):
        return Decision("stale", document)
    if not document.exists and event.key.endswith("/"):
        return Decision("folder", document)
    after = (
        document.without_history()
        .without_annotations()
        .having(
            bucket=event.bucket,
            key=event.key,
            sequencer=event.sequencer,
            status="removed",
            removed_at=event.occurred_at,
            prediction=None,
            error=document.error if document.is_refused else None,
            indexed_at=now,
            sources=document.sources,
        )
    )
    return Decision("removed", after)


def refused(document: ImageDocument, reading: Reading, now: datetime) -> Decision[Code]:
    """Decide what forgotten bytes that came again make of a document: a proof of removal.

    See docs/decisions/0032-forgotten-images.md.
    """
    after = _with_reading(document.without_history().without_annotations(), reading)
    return Decision(FORGOTTEN, after.having(status="removed", removed_at=now, indexed_at=now))


def gone(
    document: ImageDocument, event: ObjectEvent, provenance: Provenance, now: datetime
) -> Decision[Code]:
    """Decide what an object that was deleted before it was read makes of its document.

    The event of the deletion follows and knows no source: only here it gets into the proof.
    """
    sourced = document.with_source(provenance)
    if document.exists:
        return Decision("gone", sourced)
    is_owed = any(each.url or each.batch_id for each in sourced.sources)
    if not is_owed or event.key.endswith("/"):
        return Decision("gone", document)
    proof = removed(sourced, event, now).document
    return Decision("gone", proof.having(stored_at=event.occurred_at, removed_at=now))


def reason_not_to(document: ImageDocument, job: RepredictJob) -> Code | None:
    """Return why a job has nothing to do any more, or None where it has.

    The job may have been delivered before, or the object removed, replaced or read since.
    """
    if not document.exists or document.status == "removed":
        return "gone"
    if document.etag != job.etag:
        return "stale"
    predicted_at = document.prediction.predicted_at if document.prediction else None
    return None if predicted_at == job.replaces else "duplicate"


def repredicted(
    document: ImageDocument, job: RepredictJob, reading: Reading, now: datetime
) -> Decision[Code]:
    """Decide what a second reading makes of a document: its prediction goes into ``history``."""
    reason = reason_not_to(document, job)
    if reason is not None:
        return Decision(reason, document)
    if reading.etag != job.etag:
        return Decision("stale", document)  # replaced since; the event of that follows
    if reading.is_forgotten:
        return refused(document, reading, now)
    earlier, result = document.prediction, reading.result
    is_read = isinstance(result, Prediction)
    is_same = isinstance(result, Prediction) and earlier is not None and earlier.is_like(result)
    after = document if earlier is None or is_same else document.with_earlier(earlier)
    return Decision("repredicted" if is_read else "rejected", _with_reading(after, reading))


def _of_bytes(
    document: ImageDocument, reading: Reading, kept: Annotations, now: datetime
) -> Annotations:
    """Return the annotations of the bytes that were read; an ETag may differ for equal bytes."""
    annotations = document.annotations
    if document.exists and document.sha256 != reading.sha256:
        annotations = annotations.of_other_bytes(now)
    return annotations.or_else(kept)


def _after_event(document: ImageDocument, event: ObjectEvent, now: datetime) -> ImageDocument:
    return document.having(
        bucket=event.bucket,
        key=event.key,
        sequencer=event.sequencer,
        uploaded_by=event.uploaded_by,
        stored_at=event.occurred_at,
        indexed_at=now,
    )


def _with_late_text(
    document: ImageDocument, event: ObjectEvent, provenance: Provenance, now: datetime
) -> ImageDocument:
    """Add what an event says of a placeholder that shows a later one."""
    is_of_its_bytes = event.etag is not None and event.etag == document.etag
    if document.status == "removed" or not is_of_its_bytes or not document.placeholder:
        return document
    late = document.annotations.with_late(provenance, now)
    return document if late == document.annotations else document.with_annotations(late)


def _with_reading(document: ImageDocument, reading: Reading) -> ImageDocument:
    """Set what a reading alone decides, and how far it is from the prediction before."""
    prediction = reading.result if isinstance(reading.result, Prediction) else None
    after = document.having(
        etag=reading.etag,
        size=reading.size,
        content_type=reading.content_type,
        sha256=reading.sha256,
        width=reading.width,
        height=reading.height,
        prediction=prediction,
        error=reading.result if prediction is None else None,
        status="rejected" if prediction is None else "predicted",
    )
    if not document.history:
        return after
    apart = 1 - similarity(document.history[-1].text, prediction.text) if prediction else 0.0
    return after.having(disagreement=apart or None)
