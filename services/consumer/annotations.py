"""What an event makes of the annotation of an image; pure functions.

A person's annotation stays, whatever lists say. Of two lists the later one counts, unless the
image is a placeholder: then texts that differ are no ground truth.
"""

from datetime import datetime
from typing import Any

from services.common.adapters.mongo import Document
from services.common.domain.annotations import (
    BY_BATCH,
    BYTES_REPLACED_AT,
    DISPUTED_AT,
    MOST_EARLIER,
    SOURCES_DISAGREE,
    collapse,
    given_annotation,
    history_fields,
)
from services.common.domain.provenance import Provenance

API = "api"
"""Instead of a batch, where an annotation came with a request to the OCR API."""


def annotations_of_bytes(
    document: Document | None, sha256: str | None, kept: Document | None, now: datetime
) -> Document:
    """Return the annotations of bytes that were read, before anything new is said of them.

    An annotation never becomes the label of bytes that it was not made for; those whose bytes are
    back are valid again.

    Args:
        document: As it is; None: there is none.
        sha256: Of the bytes.
        kept: Their annotations from when they were here before (see ``tombstones``).
        now: The time.
    """
    before, again = document or {}, kept or {}
    said, history = before.get("annotation"), before.get("annotation_history") or []
    # An ETag may differ for equal bytes
    if document is not None and document.get("sha256") != sha256:
        ended = [*history, said] if said else history  # undo must not make them valid again
        history = [{BYTES_REPLACED_AT: now, **each} for each in ended]
        said = None
    return {
        "annotation": said or again.get("annotation"),
        "annotation_history": history or again.get("annotation_history") or [],
    }


def annotation_fields(
    document: Document | None,
    annotated: Document,
    provenance: Provenance,
    now: datetime,
    *,
    is_placeholder: bool,
) -> dict[str, Any]:
    """Return the annotation from now on, and the one that it replaces among the earlier ones.

    Args:
        document: As it is; fields that stay as they are in it are left out.
        annotated: Its annotations before this event.
        provenance: What the event says.
        now: The time.
        is_placeholder: Whether very many URLs lead to the image.
    """
    current, earlier = annotated.get("annotation"), annotated.get("annotation_history") or []
    annotation = _annotation(current, provenance, now)
    if current is not None and annotation != current:
        earlier = [*earlier, current]
    if is_placeholder:
        annotation, earlier = _without_dispute(annotation, earlier, now)
    return _changed(document, annotation, earlier, is_placeholder=is_placeholder)


def late_annotation_fields(
    document: Document, provenance: Provenance, now: datetime
) -> dict[str, Any]:
    """Return what the text of an event makes of a placeholder that shows a later event already.

    It replaces nothing, but may differ from what others say.
    """
    current, earlier = document.get("annotation"), document.get("annotation_history") or []
    late = _annotation(None, provenance, now)
    if late is None or (current is not None and not _is_given(current)):
        return {}
    others = _texts([*earlier, current] if current is not None else earlier)
    if not others or late["text"] in others:
        return {}
    annotation, earlier = _without_dispute(current, [*earlier, late], now)
    return _changed(document, annotation, earlier, is_placeholder=True)


def without_annotations(document: Document | None) -> dict[str, Any]:
    """Return what erases the earlier annotations, where there are any."""
    before = document or {}
    erased: dict[str, Any] = {}
    if before.get("annotation_history"):
        erased |= {"annotation_history": [], "annotation_history_count": 0}
    if before.get("annotation_conflict"):
        erased["annotation_conflict"] = None
    return erased


def _annotation(current: Document | None, provenance: Provenance, now: datetime) -> Document | None:
    """Return the annotation that came along, unless a person has written another.

    What whoever may call the OCR API says does not replace what a list said.
    """
    if provenance.annotation is None:
        return current
    came = given_annotation(
        provenance.annotation, batch=provenance.batch_id or API, at=provenance.fetched_at or now
    )
    if current is not None and (
        not current["by"].startswith(BY_BATCH)
        or collapse(current["text"]) == came["text"]
        or (provenance.batch_id is None and current["by"] != came["by"])
    ):
        return current
    return came


def _without_dispute(
    annotation: Document | None, earlier: list[Document], now: datetime
) -> tuple[Document | None, list[Document]]:
    """Put an annotation of a list among the earlier ones where other lists' texts differ."""
    if annotation is not None and not _is_given(annotation):
        return annotation, earlier
    given = earlier
    if annotation is not None and collapse(annotation["text"]) not in _texts(earlier):
        given = [*earlier, annotation]
    if len(_texts(given)) < 2:
        return annotation, earlier
    if len(earlier) >= MOST_EARLIER and len(_texts(earlier)) > 1:
        return None, earlier  # enough is known of the dispute
    return None, [{DISPUTED_AT: now, **each} if _is_given(each) else each for each in given]


def _changed(
    document: Document | None,
    annotation: Document | None,
    earlier: list[Document],
    *,
    is_placeholder: bool,
) -> dict[str, Any]:
    before = document or {}
    fields: dict[str, Any] = {"annotation": annotation}
    if earlier != (before.get("annotation_history") or []):
        fields |= history_fields(document, earlier)
    is_disputed = is_placeholder and annotation is None and len(_texts(earlier)) > 1
    conflict = SOURCES_DISAGREE if is_disputed else None
    if conflict != before.get("annotation_conflict"):
        fields["annotation_conflict"] = conflict
    return fields


def _texts(annotations: list[Document]) -> set[str]:
    """Return what lists have said of these bytes, in the form in which texts are compared."""
    return {
        collapse(each["text"])
        for each in annotations
        if _is_given(each) and BYTES_REPLACED_AT not in each and "undone_at" not in each
    }


def _is_given(annotation: Document) -> bool:
    return str(annotation["by"]).startswith(BY_BATCH)
