"""Documents of equal bytes are one image: what it reads, and where it came from."""

from collections.abc import Iterable, Sequence

from services.common.adapters.mongo import Collection, Document
from services.common.domain.labels import Exclusion, Label, Origin, label_of
from services.common.domain.records import Quality
from services.datasets.splits import source_group

_NAMES = ("key", "etag", "sha256", "status", "stored_at", "annotation", "annotation_conflict")
_PARTS = ("sources.url", "sources.fetched_at", "history.text", "history.model_version")
FIELDS = dict.fromkeys((*_NAMES, "prediction", *_PARTS), 1)
"""Of a document, all that decides about its image."""
_VAGUE = {Exclusion.NOT_READ, Exclusion.NOT_ANNOTATED}


async def find_copies(
    images: Collection, bucket: str, hashes: Iterable[str]
) -> dict[str, list[Document]]:
    """Return all documents of each hash but removed ones, in the order of their keys.

    Raises:
        IndexUnavailableError: MongoDB does not answer.
    """
    where = {"sha256": {"$in": sorted(set(hashes))}, "bucket": bucket, "status": {"$ne": "removed"}}
    copies: dict[str, list[Document]] = {}
    async for document in images.find(where, fields=FIELDS):
        copies.setdefault(document["sha256"], []).append(document)
    return {sha256: sorted(found, key=_id) for sha256, found in copies.items()}


def decide(
    copies: Sequence[Document], *, only_annotated: bool, min_agreement: float
) -> tuple[Document, Label] | Exclusion:
    """Return what an image reads and the document that says so, or why it has no label.

    A text that a person has written for any copy counts most, then that a person has found one
    to be no text, then a prediction; among equals, the first key.
    """
    labels = [
        (each, label_of(each, only_annotated=only_annotated, min_agreement=min_agreement))
        for each in copies
    ]
    labelled = [(each, label) for each, label in labels if isinstance(label, Label)]
    written = [pair for pair in labelled if pair[1].origin is Origin.ANNOTATION]
    refused = [quality for each in copies if (quality := _refusal(each))]
    if written:
        return written[0]
    if refused:
        return refused[0]
    if labelled:
        return labelled[0]
    reasons = [label for _, label in labels if isinstance(label, Exclusion)]
    return next((reason for reason in reasons if reason not in _VAGUE), reasons[0])


def provenance_of(copies: Sequence[Document]) -> Document:
    """Return ``key`` and ``sources`` of an image: the first key stored, all sources by time."""
    first = min(copies, key=lambda each: (each["stored_at"], _id(each)))
    sources = [source for each in copies for source in each.get("sources") or []]
    return {"key": first["key"], "sources": sorted(sources, key=_fetched_at)}


def identity_of(copies: Sequence[Document], *, is_by_source: bool) -> str:
    """Return what the split of an image is decided by: its source or its bytes."""
    return source_group(provenance_of(copies)) if is_by_source else str(copies[0]["sha256"])


def _refusal(document: Document) -> Exclusion | None:
    if document.get("annotation") is None and document.get("annotation_conflict"):
        return Exclusion.SOURCES_DISAGREE
    quality = (document.get("annotation") or {}).get("quality")
    return Exclusion(quality) if quality in {Quality.UNREADABLE, Quality.NOT_A_LINE} else None


def _id(document: Document) -> str:
    return str(document["_id"])


def _fetched_at(source: Document) -> tuple[bool, float]:
    """Order sources by time; those that say none are last."""
    at = source.get("fetched_at")
    return (True, 0.0) if at is None else (False, at.timestamp())
