"""The document of an image: what an event and a reading make of it.

Pure functions from the document as it is to what is to be set, so that a writer who lost a race
can decide again from the new state (see ``images``). Times are UTC; MongoDB keeps milliseconds.

See docs/decisions/0002-at-least-once-and-idempotent.md.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, get_args

from services.common.adapters.mongo import Document
from services.common.adapters.object_store import ObjectInfo
from services.common.domain.events import ObjectEvent, sequence_order
from services.common.domain.labels import similarity
from services.common.domain.provenance import Provenance
from services.consumer.annotations import (
    annotation_fields,
    annotations_of_bytes,
    late_annotation_fields,
    without_annotations,
)
from services.consumer.ocr_client import Prediction
from services.consumer.sources import is_placeholder, source_fields

Code = Literal[
    "predicted",
    "repredicted",
    "rejected",
    "duplicate",
    "stale",
    "removed",
    "gone",
    "folder",
    "ignored",
    "read_again",
]
"""What became of an event or a job."""
READ_AGAIN: Final = "read_again"
"""Code of a decision that a reading is needed after all."""
HANDLED = frozenset(get_args(Code)) - {READ_AGAIN}
"""Codes that the work on a delivery can end with."""


@dataclass(frozen=True)
class Reading:
    """What came of reading an object's bytes."""

    info: ObjectInfo
    read_at: datetime
    sha256: str | None = None
    """Hexadecimal; None where the object was too large to read."""
    prediction: Prediction | None = None
    error_code: str | None = None
    error_detail: str | None = None


class Decision(NamedTuple):
    """What to do with a document."""

    code: Code
    fields: dict[str, Any] | None
    """What to set; None leaves the document as it is."""


def is_older(event: ObjectEvent, document: Document | None) -> bool:
    """Whether ``document`` already shows a later state of the object than ``event``."""
    if document is None or not document.get("sequencer"):
        return False
    return sequence_order(event.sequencer) < sequence_order(document["sequencer"])


def needs_reading(event: ObjectEvent, document: Document | None) -> bool:
    """Whether the object's bytes must be read and recognised to decide about ``event``."""
    if is_older(event, document):
        return False
    return (
        document is None
        or document.get("status") != "predicted"
        or document.get("etag") != event.etag
    )


def ends_bytes(document: Document, fields: Document) -> bool:
    """Whether setting ``fields`` takes away the bytes that the document's annotation is of."""
    is_replaced = fields.get("sha256", document.get("sha256")) != document.get("sha256")
    return is_replaced or fields.get("status") == "removed"


def said_of(reading: Reading | None, event: ObjectEvent, provenance: Provenance) -> Provenance:
    """Return what an event says of the bytes that were read.

    Where the object was written again since, the text that came with its first bytes is no label
    of the others; the event of those follows.
    """
    if reading is None or event.etag in {None, reading.info.etag}:
        return provenance
    return replace(provenance, annotation=None)


def stored(
    document: Document | None,
    event: ObjectEvent,
    provenance: Provenance,
    reading: Reading | None,
    now: datetime,
    *,
    kept: Document | None = None,
) -> Decision:
    """Decide what an object that was written makes of its document.

    Args:
        document: As it is; None: there is none.
        event: That the object was written.
        provenance: Where the event says it is from.
        reading: Of its bytes; None where it was not read.
        now: The time.
        kept: The annotations of the bytes that were read, from when they were here before (see
            ``tombstones``).
    """
    is_repeated = document is not None and event.sequencer == document.get("sequencer")
    sources = source_fields(document, provenance, is_repeated=is_repeated)
    if document is not None and is_older(event, document):
        # Late, but where the image came from is still owed
        return Decision("stale", _late(document, event, provenance, sources, now) or None)
    if reading is None and needs_reading(event, document):
        return Decision(READ_AGAIN, None)
    annotated = document or {}
    if reading is not None:
        annotated = annotations_of_bytes(document, reading.sha256, kept, now)
    fields = {
        "bucket": event.bucket,
        "key": event.key,
        "sequencer": event.sequencer,
        "uploaded_by": event.uploaded_by,
        "stored_at": event.occurred_at,
        "indexed_at": now,
        **sources,
        **annotation_fields(
            document,
            annotated,
            provenance,
            now,
            is_placeholder=is_placeholder(document, sources),
        ),
    }
    if document is not None and document.get("removed_at") is not None:
        fields["removed_at"] = None
    if reading is None:
        return Decision("duplicate", fields)
    code: Code = "rejected" if reading.prediction is None else "predicted"
    read = of_reading(reading)
    if document is not None and document.get("etag") != read["etag"]:
        fields |= _without_history(document)
    return Decision(code, with_disagreement(document, {**fields, **read}))


def _late(
    document: Document,
    event: ObjectEvent,
    provenance: Provenance,
    sources: dict[str, Any],
    now: datetime,
) -> dict[str, Any]:
    """Return what an event adds to a document that shows a later one."""
    is_of_its_bytes = event.etag is not None and event.etag == document.get("etag")
    if document.get("status") == "removed" or not is_of_its_bytes:
        return sources
    if not is_placeholder(document, sources):
        return sources
    return {**sources, **late_annotation_fields(document, provenance, now)}


def removed(document: Document | None, event: ObjectEvent, now: datetime) -> Decision:
    """Decide what a removal makes of a document: what was read goes, where it came from stays."""
    if is_older(event, document):
        return Decision("stale", None)
    if document is None and event.key.endswith("/"):
        return Decision("folder", None)
    fields = {
        "bucket": event.bucket,
        "key": event.key,
        "sequencer": event.sequencer,
        "status": "removed",
        "removed_at": event.occurred_at,
        "prediction": None,
        "annotation": None,
        "error": None,
        "indexed_at": now,
        **_without_history(document),
        **without_annotations(document),
    }
    return Decision("removed", fields if document is not None else {"sources": [], **fields})


def gone(
    document: Document | None, event: ObjectEvent, provenance: Provenance, now: datetime
) -> Decision:
    """Decide what an object that was deleted before it was read makes of its document.

    The event of the deletion follows and knows no source: only here it gets into the proof.
    """
    sources = source_fields(document, provenance)
    if document is not None:
        return Decision("gone", sources or None)
    fields = removed(None, event, now).fields
    if fields is None or not sources["sources"]:
        return Decision("gone", None)
    told = {"stored_at": event.occurred_at, "removed_at": now, **sources}
    return Decision("gone", {**fields, **told})


def _without_history(document: Document | None) -> dict[str, Any]:
    """Return what erases the earlier predictions, where there are any."""
    has_some = document is not None and document.get("history")
    return {"history": [], "history_count": 0, "disagreement": None} if has_some else {}


def with_disagreement(document: Document | None, fields: dict[str, Any]) -> dict[str, Any]:
    """Add how far a new prediction is from the one before, where there is one.

    None where both are the same, so that only images to look at are in the index.
    """
    history = fields.get("history", (document or {}).get("history"))
    if not history:
        return fields
    prediction = fields["prediction"]
    apart = 1 - similarity(history[-1]["text"], prediction["text"]) if prediction else 0.0
    return {**fields, "disagreement": apart or None}


def of_reading(reading: Reading) -> dict[str, Any]:
    """Return the fields that a reading alone decides."""
    fields: dict[str, Any] = {
        "etag": reading.info.etag,
        "size": reading.info.size,
        "content_type": reading.info.content_type,
        "sha256": reading.sha256,
    }
    prediction = reading.prediction
    if prediction is None:
        error = {"code": reading.error_code, "detail": reading.error_detail}
        rejected = {"width": None, "height": None, "prediction": None}
        return {**fields, **rejected, "status": "rejected", "error": error}
    read = {
        "text": prediction.text,
        "score": prediction.score,
        "engine": prediction.engine,
        "model_version": prediction.model_version,
        "predicted_at": reading.read_at,
        "duration_ms": prediction.duration_ms,
    }
    size = {"width": prediction.width, "height": prediction.height}
    return {**fields, **size, "prediction": read, "status": "predicted", "error": None}
