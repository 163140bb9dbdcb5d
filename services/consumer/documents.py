"""The document of an image: what an event and a reading make of it.

Pure functions from the document as it is to what is to be set, so that a writer who lost a race
can decide again from the new state (see ``images``). Times are UTC; MongoDB keeps milliseconds.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, get_args

from services.common.annotations import BY_BATCH, BYTES_REPLACED_AT
from services.common.events import ObjectEvent, sequence_order
from services.common.index import Document
from services.common.labels import similarity
from services.common.metadata import Provenance
from services.common.object_store import ObjectInfo
from services.consumer.ocr_client import Prediction

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

API = "api"
"""Instead of a batch, where an annotation came with a request to the OCR API."""


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
    sources = _sources(document, provenance)
    if is_older(event, document):
        # Late, but where the image came from is still owed
        is_known = document is not None and sources == document.get("sources")
        return Decision("stale", None if is_known else {"sources": sources})
    if reading is None and needs_reading(event, document):
        return Decision(READ_AGAIN, None)
    fields = {
        "bucket": event.bucket,
        "key": event.key,
        "sequencer": event.sequencer,
        "uploaded_by": event.uploaded_by,
        "stored_at": event.occurred_at,
        "indexed_at": now,
        "sources": sources,
        **_annotations(document, _annotated(document, reading, kept, now), provenance, now),
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
        **_without_annotations(document),
    }
    return Decision("removed", fields if document is not None else {"sources": [], **fields})


def gone(
    document: Document | None, event: ObjectEvent, provenance: Provenance, now: datetime
) -> Decision:
    """Decide what an object that was deleted before it was read makes of its document.

    The event of the deletion follows and knows no source: only here it gets into the proof.
    """
    sources = _sources(document, provenance)
    if document is not None:
        is_known = sources == document.get("sources")
        return Decision("gone", None if is_known else {"sources": sources})
    fields = removed(None, event, now).fields
    if fields is None or not sources:
        return Decision("gone", None)
    told = {"stored_at": event.occurred_at, "removed_at": now, "sources": sources}
    return Decision("gone", {**fields, **told})


def _without_history(document: Document | None) -> dict[str, Any]:
    """Return what erases the earlier predictions, where there are any."""
    has_some = document is not None and document.get("history")
    return {"history": [], "disagreement": None} if has_some else {}


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


def _annotated(
    document: Document | None, reading: Reading | None, kept: Document | None, now: datetime
) -> Document:
    """Return the annotations of an object's bytes before anything new is said of them.

    An annotation never becomes the label of bytes that it was not made for; those whose bytes are
    back are valid again.
    """
    before = document or {}
    said, history = before.get("annotation"), before.get("annotation_history") or []
    if reading is None:
        return {"annotation": said, "annotation_history": history}
    again = kept or {}
    # An ETag may differ for equal bytes
    if document is not None and document.get("sha256") != reading.sha256:
        ended = [*history, said] if said else history  # undo must not make them valid again
        history = [{BYTES_REPLACED_AT: now, **each} for each in ended]
        said = None
    return {
        "annotation": said or again.get("annotation"),
        "annotation_history": history or again.get("annotation_history") or [],
    }


def _without_annotations(document: Document | None) -> dict[str, Any]:
    """Return what erases the earlier annotations, where there are any."""
    has_some = document is not None and document.get("annotation_history")
    return {"annotation_history": []} if has_some else {}


def _sources(document: Document | None, provenance: Provenance) -> list[dict[str, Any]]:
    sources = list((document or {}).get("sources") or [])
    url = provenance.source_url
    if url is not None and all(source["url"] != url for source in sources):
        sources.append(
            {"url": url, "batch_id": provenance.batch_id, "fetched_at": provenance.fetched_at}
        )
    return sources


def _annotations(
    document: Document | None, annotated: Document, provenance: Provenance, now: datetime
) -> dict[str, Any]:
    """Return the annotation from now on, and the one that it replaces among the earlier ones.

    Args:
        document: As it is; fields that stay as they are in it are left out.
        annotated: Its annotations before this (see ``_annotated``).
        provenance: What the event says.
        now: The time.
    """
    current, earlier = annotated["annotation"], annotated["annotation_history"]
    annotation = _annotation(annotated, provenance, now)
    if current is not None and annotation != current:
        earlier = [*earlier, current]
    is_same = earlier == ((document or {}).get("annotation_history") or [])
    return {"annotation": annotation} | ({} if is_same else {"annotation_history": earlier})


def _annotation(
    annotated: Document, provenance: Provenance, now: datetime
) -> dict[str, Any] | None:
    """Return the annotation that came along, unless a person has written another.

    What whoever may call the OCR API says does not replace what a list said.
    """
    current: dict[str, Any] | None = annotated["annotation"]
    if provenance.annotation is None:
        return current
    by = f"{BY_BATCH}{provenance.batch_id or API}"
    if current is not None and (
        not current["by"].startswith(BY_BATCH)
        or current["text"] == provenance.annotation
        or (provenance.batch_id is None and current["by"] != by)
    ):
        return current
    return {
        "text": provenance.annotation,
        "quality": "ok",
        "by": by,
        "at": provenance.fetched_at or now,
    }


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
