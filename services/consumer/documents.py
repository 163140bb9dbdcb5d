"""Decide how events and readings change an image document: pure functions.

Each decision is based on the current document, and is repeated after a conflict.

See docs/decisions/0002-at-least-once-and-idempotent.md.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, get_args

from services.common.domain.accuracy import similarity
from services.common.domain.annotation_history import Annotations
from services.common.domain.events import ObjectEvent, RepredictJob
from services.common.domain.image import FORGOTTEN, Decision, ImageDocument
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
"""Outcome of an event or a job."""
ShadowCode = Literal["agreed", "disagreed", "same_model", "obsolete", "refused"]
"""Outcome of a shadow reading."""
HANDLED = frozenset(get_args(Code))
"""Codes of handled deliveries."""
LOOKS_LIKE_A_PAGE = "looks_like_a_page"
"""Code of an image that is rejected as a page."""
NONE_KEPT = Annotations()


@dataclass(frozen=True)
class ObjectReading:
    """Result of reading an object's bytes."""

    etag: str
    size: int
    content_type: str | None
    sha256: str | None
    """Hexadecimal; None if the object was too large to read."""
    result: Prediction | Rejection
    width: int | None = None
    """Pixels; None for a rejection."""
    height: int | None = None

    @property
    def is_forgotten(self) -> bool:
        """Whether these bytes are forgotten."""
        return isinstance(self.result, Rejection) and self.result.code == FORGOTTEN


def without_pages(reading: ObjectReading, *, least_height: int, is_line: bool) -> ObjectReading:
    """Reject what looks like a whole page: read as one line it would only spoil the mean score.

    Args:
        reading: Of an image.
        least_height: Pixels from which on an image that is less than twice as wide is a page; 0:
            none is.
        is_line: Whether it is known to be a line: its text is known, or the page it was cut from.
    """
    width, height = reading.width or 0, reading.height or 0
    is_page = 0 < least_height <= height and width < 2 * height
    if is_line or not is_page or not isinstance(reading.result, Prediction):
        return reading
    detail = f"{width} x {height} pixels: put pages into the bucket of pages (docs/pages.md)"
    rejection = Rejection(code=LOOKS_LIKE_A_PAGE, detail=detail)
    return replace(reading, result=rejection, width=None, height=None)


def needs_reading(event: ObjectEvent, document: ImageDocument) -> bool:
    """Whether ``event`` requires reading the object's bytes."""
    if event.is_older_than(document.sequencer):
        return False
    return document.status != "predicted" or document.etag != event.etag


def provenance_of(
    reading: ObjectReading | None, event: ObjectEvent, provenance: Provenance
) -> Provenance:
    """Return an event's provenance for the bytes that were read.

    If the object was overwritten since, the text of its first bytes is not a label of the new ones,
    whose event follows.
    """
    if reading is None or event.etag in {None, reading.etag}:
        return provenance
    return replace(provenance, annotation=None)


def stored(
    document: ImageDocument,
    event: ObjectEvent,
    provenance: Provenance,
    reading: ObjectReading | None,
    now: datetime,
    *,
    kept: Annotations = NONE_KEPT,
) -> Decision[Code]:
    """Decide about a written object.

    Args:
        document: Current state.
        event: Of the write.
        provenance: Of the event.
        reading: Of its bytes; None if ``needs_reading`` is False.
        now: The time.
        kept: The tombstones of the bytes that were read.
    """
    sourced = document.with_source(
        provenance, is_repeated=event.sequencer == document.sequencer
    ).of_page(provenance.page)
    if event.is_older_than(document.sequencer):
        # Outdated, but its source is still recorded
        return Decision("stale", _with_late_text(sourced, event, provenance, now))
    if reading is not None and reading.is_forgotten:
        return refused(sourced.after_write(event, now), reading, now)
    annotations = document.annotations
    if reading is not None:
        annotations = _of_bytes(document, reading, kept, now)
    annotations = annotations.with_given(provenance, now)
    if sourced.placeholder:
        annotations = annotations.without_dispute(now)
    after = sourced.with_annotations(annotations).after_write(event, now)
    if document.removed_at is not None:
        after = after.having(removed_at=None)
    if reading is None:
        return Decision("duplicate", after)
    if document.etag != reading.etag:
        after = after.without_history()
    code: Code = "predicted" if isinstance(reading.result, Prediction) else "rejected"
    return Decision(code, _with_reading(after, reading))


def removed(document: ImageDocument, event: ObjectEvent, now: datetime) -> Decision[Code]:
    """Decide about a removal: predictions are erased, sources are kept."""
    if event.is_older_than(document.sequencer):
        return Decision("stale", document)
    if not document.exists and event.key.endswith("/"):
        return Decision("folder", document)
    error = document.error if document.is_refused else None
    erased = document.without_history().without_annotations().having(prediction=None, error=error)
    return Decision("removed", erased.after_removal(event, now))


def refused(document: ImageDocument, reading: ObjectReading, now: datetime) -> Decision[Code]:
    """Decide about forgotten bytes that came again: the document becomes a proof of removal.

    See docs/decisions/0032-forgotten-images.md.
    """
    after = _with_reading(document.without_history().without_annotations(), reading)
    return Decision(FORGOTTEN, after.having(status="removed", removed_at=now, indexed_at=now))


def gone(
    document: ImageDocument, event: ObjectEvent, provenance: Provenance, now: datetime
) -> Decision[Code]:
    """Decide about an object that was deleted before it was read.

    Its source is recorded for the proof of removal, as the event of the deletion has none.
    """
    sourced = document.with_source(provenance)
    if document.exists:
        is_removed = document.status == "removed"
        return Decision("gone", sourced.without_details() if is_removed else sourced)
    is_owed = any(each.url or each.batch_id for each in sourced.sources)
    if not is_owed or event.key.endswith("/"):
        return Decision("gone", document)
    proof = removed(sourced, event, now).document
    return Decision("gone", proof.having(stored_at=event.occurred_at, removed_at=now))


def reason_not_to(document: ImageDocument, job: RepredictJob) -> Code | None:
    """Return why a job is obsolete, or None.

    It may have been delivered before, or the object removed, replaced or read since.
    """
    if not document.exists or document.status == "removed":
        return "gone"
    if document.etag != job.etag:
        return "stale"
    predicted_at = document.prediction.predicted_at if document.prediction else None
    return None if predicted_at == job.replaces else "duplicate"


def repredicted(
    document: ImageDocument, job: RepredictJob, reading: ObjectReading, now: datetime
) -> Decision[Code]:
    """Decide about a new reading: the old prediction moves to ``history``."""
    reason = reason_not_to(document, job)
    if reason is not None:
        return Decision(reason, document)
    if reading.etag != job.etag:
        return Decision("stale", document)  # replaced since; its event follows
    if reading.is_forgotten:
        return refused(document, reading, now)
    earlier, result = document.prediction, reading.result
    is_read = isinstance(result, Prediction)
    is_same = isinstance(result, Prediction) and earlier is not None and earlier.is_like(result)
    after = document if earlier is None or is_same else document.with_earlier(earlier)
    return Decision("repredicted" if is_read else "rejected", _with_reading(after, reading))


def shadowed(document: ImageDocument, etag: str, reading: Prediction) -> Decision[ShadowCode]:
    """Decide about a candidate's reading: it joins ``history``, the prediction stays.

    Args:
        document: Current state.
        etag: Of the bytes that were read.
        reading: The candidate's.
    """
    current = document.prediction
    if document.status != "predicted" or document.etag != etag or current is None:
        return Decision("obsolete", document)
    if current.model == reading.model:
        return Decision("same_model", document)  # it was promoted
    after = _compared(document.with_earlier(reading))
    return Decision("agreed" if after.disagreement is None else "disagreed", after)


def _of_bytes(
    document: ImageDocument, reading: ObjectReading, kept: Annotations, now: datetime
) -> Annotations:
    """Return the annotations of the bytes that were read; equal bytes may have several ETags.

    Tombstones are of bytes that were gone. What people did since with those that came back counts,
    also that they took an annotation back.
    """
    annotations = document.annotations
    is_same = document.sha256 == reading.sha256
    if document.exists and document.status != "removed" and is_same:
        return annotations
    if document.exists and not is_same:
        annotations = annotations.of_other_bytes(now)
    return annotations.or_else(kept)


def _with_late_text(
    document: ImageDocument, event: ObjectEvent, provenance: Provenance, now: datetime
) -> ImageDocument:
    """Add an outdated event's text to a placeholder; to a removed image nothing but its source."""
    if document.status == "removed":
        return document.without_details()
    is_of_its_bytes = event.etag is not None and event.etag == document.etag
    if not is_of_its_bytes or not document.placeholder:
        return document
    late = document.annotations.with_late(provenance, now)
    return document if late == document.annotations else document.with_annotations(late)


def _with_reading(document: ImageDocument, reading: ObjectReading) -> ImageDocument:
    """Set the fields of a reading, and its disagreement with the last prediction."""
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
    return _compared(after) if document.history else after


def _compared(document: ImageDocument) -> ImageDocument:
    """Set how far the prediction differs from the last reading of the history."""
    now, other = document.prediction, document.history[-1]
    apart = 1 - similarity(other.text, now.text) if now else 0.0
    return document.having(disagreement=apart or None)
