"""Today's form of documents that earlier versions wrote: pure decisions."""

from collections.abc import Mapping
from functools import reduce
from typing import Any

from services.common.domain.image import ImageDocument
from services.common.domain.keys import FETCHED
from services.common.domain.provenance import (
    DEFAULT_COLLECTION,
    FETCHED_KINDS,
    PLACEHOLDER_SOURCES,
    Provenance,
    completed,
    kind_of,
    to_source,
    with_source,
)
from services.common.domain.records import Annotation, Source
from services.common.domain.redaction import beginning

Fields = dict[str, Any]
Collections = Mapping[str, str]
"""Collections of batches, by their ids."""

OUTDATED_BATCH: Fields = {"collection": {"$exists": False}}
OUTDATED_FETCH: Fields = {"$or": [{"kind": {"$exists": False}}, {"source_url": {"$exists": False}}]}
OUTDATED_IMAGE: Fields = {
    "$or": [
        {"revision": {"$exists": False}},
        {"sources_count": {"$exists": False}},
        {"sources.fetched_at": {"$exists": True}},
        {"sources": {"$elemMatch": {"kind": {"$in": [*FETCHED_KINDS]}, "collection": None}}},
        {"sources.kind": {"$exists": False}, "key": {"$not": {"$regex": f"^{FETCHED}"}}},
        {"annotation.by": {"$regex": "^batch:"}, "annotation.how": {"$exists": False}},
    ]
}


def batch_fields(batch: Fields) -> Fields:
    """Return what a batch lacks: a list of URLs, whose name is that of its collection."""
    missing: Fields = {"kind": "url", "collection": batch.get("name") or DEFAULT_COLLECTION}
    return {name: value for name, value in missing.items() if name not in batch}


def fetch_fields(fetch: Fields, collections: Collections) -> Fields:
    """Return what an item of a batch lacks; a URL of before redaction loses its whole query."""
    kind, name = kind_of(fetch["url"])
    _, *member = fetch["url"].partition("#")
    missing: Fields = {
        "source_url": "".join((beginning(fetch["url"]), *member)),
        "kind": kind,
        "collection": collections.get(fetch["batch_id"], DEFAULT_COLLECTION),
        "name": name,
    }
    return {name: value for name, value in missing.items() if name not in fetch}


def image_today(image: ImageDocument, collections: Collections) -> ImageDocument:
    """Return a document of ``images`` in today's form; texts and predictions stay as they are."""
    known = image.sources or (Source(),)
    found = (_source_today(each, image, collections) for each in known)
    sources: tuple[Source, ...] = reduce(with_source, (each for each in found if each), ())
    after = image.having(
        sources=sources,
        sources_count=max(image.sources_count, len(image.sources), len(sources)),
        annotation=image.annotation and _annotation_today(image.annotation),
    )
    if image.annotation_history:
        after = after.having(
            annotation_history=tuple(_annotation_today(each) for each in image.annotation_history)
        )
    is_placeholder = len(set(image.urls)) > PLACEHOLDER_SOURCES
    return after.having(placeholder=True) if is_placeholder else after


def _source_today(source: Source, image: ImageDocument, collections: Collections) -> Source | None:
    if source.kind is not None:
        return _of_collection(source, collections)
    at = source.came_at
    origin = Provenance(source.url, source.batch_id, fetched_at=at)
    if (stored_at := image.stored_at or image.indexed_at) is not None:
        origin = completed(origin, image.key, stored_at)
    made = to_source(origin)
    return made and _of_collection(made, collections)


def _of_collection(source: Source, collections: Collections) -> Source:
    """Complete a source that was read from an object of before there were collections."""
    if source.collection or source.kind not in FETCHED_KINDS:
        return source
    collection = collections.get(source.batch_id or "", DEFAULT_COLLECTION)
    kind, name = kind_of(source.url or "")
    if kind == "archive":
        return source.having(kind=kind, name=source.name or name, collection=collection)
    return source.having(collection=collection)


def _annotation_today(annotation: Annotation) -> Annotation:
    """Say how its text came about, where that is known."""
    how = annotation.known_how
    return annotation if annotation.how == how else annotation.having(how=how)
