"""Taking an annotation back: the one before it is valid again, and both stay known."""

from datetime import UTC, datetime
from typing import Any

from services.common.adapters.mongo import Collection, Document
from services.common.domain.annotations import BYTES_REPLACED_AT, DISPUTED_AT, history_fields

_ENDED = {"undone_at", BYTES_REPLACED_AT, DISPUTED_AT}
"""What says of an earlier annotation that it is never valid again."""


async def take_back(images: Collection, document_id: str, **having: Any) -> bool:
    """Take back an annotation with these fields; False: the image has another by now, or none.

    Whose it is, is said by its ``by`` and ``at``, or its ``origin``. What was taken back goes into
    ``annotation_history`` with ``undone_at``; what was valid before comes out of it.

    Raises:
        IndexUnavailableError: MongoDB does not answer.
    """
    while True:
        document = await images.find_one({"_id": document_id})
        annotation = (document or {}).get("annotation")
        if document is None or not annotation or not having.items() <= annotation.items():
            return False
        as_read = {"_id": document_id, "revision": document.get("revision")}
        change = {"$set": _without_last(document), "$inc": {"revision": 1}}
        if await images.update_one(as_read, change):
            return True


async def was_taken_back(images: Collection, document_id: str, **having: Any) -> bool:
    """Return whether an annotation with these fields is one that was taken back.

    Raises:
        IndexUnavailableError: MongoDB does not answer.
    """
    document = await images.find_one({"_id": document_id}) or {}
    return any(
        "undone_at" in each and having.items() <= each.items()
        for each in document.get("annotation_history") or []
    )


def _without_last(document: Document) -> Document:
    history = list(document.get("annotation_history") or [])
    valid = [number for number, each in enumerate(history) if not _ENDED & each.keys()]
    earlier = history.pop(valid[-1]) if valid else None
    undone = {**document["annotation"], "undone_at": datetime.now(tz=UTC)}
    return {"annotation": earlier, **history_fields(document, [*history, undone])}
