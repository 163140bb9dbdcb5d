"""The ``images`` collection: two services write it, the consumer and the review service.

An ``ImageFilter`` is converted to a query, and its index is chosen: see
docs/decisions/0036-one-filter-of-images.md.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from string import ascii_lowercase
from typing import Any

from typing_extensions import override

from services.common.adapters.collections import IMAGES, INDEXES
from services.common.adapters.forgotten import Tombstones
from services.common.adapters.mongo import Collection, Document
from services.common.adapters.repository import Repository
from services.common.domain.annotation_history import Annotations
from services.common.domain.annotations import AnnotationOutcome, Replaces
from services.common.domain.image import Decision, ImageDocument, Status
from services.common.domain.image_filter import PRESENT, ImageFilter
from services.common.domain.records import Annotation, Quality

_SEARCHED = ("prediction.text", "annotation.text", "key", "sources.name", "sources.url")
_SMALL = "sources.group"
"""Selective fields: all matching images are read, in any order."""

RECENT = 100_000
"""Images whose collections and batches are counted."""


def _base(character: str) -> str:
    return unicodedata.normalize("NFD", character)[0].lower()


_QUOTES = ("'\u2019\u2018\u02bc", '"\u201c\u201d\u00ab\u00bb')
_LATIN = [chr(each) for part in (range(0xC0, 0x250), range(0x1E00, 0x1F00)) for each in part]
_ACCENTED = {
    base: "".join([base, *(each for each in _LATIN if _base(each) == base)])
    for base in ascii_lowercase
}
_COMBINING = "[\u0300-\u036f]*"


def to_query(where: ImageFilter) -> Document:
    """Return a filter for MongoDB, indexed conditions first."""
    limits, ignored = where.limits, None
    stored = {"$gte": limits.since, "$lt": limits.until}
    query: Document = {
        "_id": _any_of(where.ids),
        "sha256": _any_of(where.hashes),
        "page.id": _any_of(where.pages),
        "placeholder": where.is_placeholder or ignored,
        "double_reading.state": _any_of(where.double or ignored),
        "double_reading.readings.by": where.reader
        or (where.not_reader and {"$ne": where.not_reader}),
        **_of_source(where),
        "indexed_at": where.changed_since and {"$gte": where.changed_since},
        "status": _any_of(where.status or ignored),
        "bucket": where.bucket,
        "stored_at": {name: at for name, at in stored.items() if at} or ignored,
        "prediction.score": where.scores and {"$gte": where.scores[0], "$lte": where.scores[1]},
        "prediction.model_version": where.read_by
        or (where.not_read_by and {"$ne": where.not_read_by}),
        "etag": {"$type": "string"} if where.is_stored else ignored,
        "$and": list(_alternatives(where)) or ignored,
    }
    query = {name: condition for name, condition in query.items() if condition is not ignored}
    if where.annotated is not None:
        is_any = {"True": {"$ne": None}, "False": None}
        query["annotation.quality"] = is_any.get(str(where.annotated), str(where.annotated))
    return query


def narrowed(query: Document, field: str, range_: Document) -> tuple[Document, Document]:
    """Split a range query into an indexed stage and the rest.

    MongoDB's stand-in uses a compound index only without other conditions, and none beside
    ``$and``, so two stages are needed. MongoDB itself merges both stages.
    """
    if _SMALL in query:
        return {_SMALL: query[_SMALL]}, {"$and": [range_, query]}
    for names in (each.fields for each in INDEXES[IMAGES]):
        known = names[: names.index(field)] if field in names else None
        if known is not None and all(_is_one_value(query, name) for name in known):
            return {**{name: query[name] for name in known}, **range_}, query
    return range_, query


def _is_one_value(query: Document, name: str) -> bool:
    return name in query and not isinstance(query[name], dict)


def _of_source(where: ImageFilter) -> Document:
    """Return the condition that one source of an image matches all conditions of sources."""
    limits = where.limits
    source: dict[str, Any] = {
        "url": _any_of(where.urls),
        "name": where.name,
        "group": limits.group,
        "batch_id": limits.batch,
        "collection": limits.collection,
        **{f"metadata.{key}": _any_of(values) for key, values in limits.metadata.items()},
    }
    url_pattern = where.url_pattern
    if where.host:
        url_pattern = f"(?i)^https?://([^/?#]*@)?{re.escape(where.host)}([:/?#]|$)"
    # Last: no index finds them
    for name, pattern in (("url", url_pattern), ("name", where.name_pattern)):
        if pattern:
            source.pop(name)
            source[name] = {"$regex": pattern}
    source = {name: condition for name, condition in source.items() if condition is not None}
    first = {f"sources.{name}": condition for name, condition in list(source.items())[:1]}
    return first if len(source) < 2 else {**first, "sources": {"$elemMatch": source}}


def _containing(text: str) -> str:
    """Return a pattern of a text, with and without accents, and with any apostrophes and quotes."""
    return "".join(map(_as_any_form, unicodedata.normalize("NFC", text)))


def _as_any_form(character: str) -> str:
    for forms in _QUOTES:
        if character in forms:
            return f"[{forms}]"
    accented = _ACCENTED.get(_base(character))
    return f"[{accented}]{_COMBINING}" if accented else re.escape(character)


def _alternatives(where: ImageFilter) -> Iterable[Document]:
    if where.text:
        containing = {"$regex": _containing(where.text), "$options": "i"}
        yield {"$or": [{name: containing} for name in _SEARCHED]}
    if where.is_labelled:
        yield {"$or": [{name: {"$ne": None}} for name in ("annotation", "annotation_conflict")]}


def _any_of(values: Iterable[object] | None) -> object:
    """Return the condition that a field has one of some values; None: any value."""
    if values is None:
        return None
    several = list(values)
    return several[0] if len(several) == 1 else {"$in": several}


class ImageRepository(Repository[ImageDocument, ImageFilter]):
    """Reads and changes the documents of images; see ``Repository``.

    Args:
        collection: ``images``.
        tombstones: Stores annotations of removed bytes; only the consumer has it.
    """

    def __init__(self, collection: Collection, tombstones: Tombstones | None = None) -> None:
        super().__init__(collection, ImageDocument, to_query)
        self._tombstones = tombstones

    async def count_by(self, field: str, most: int) -> dict[str, int]:
        """Count the images of each value of a source's field, the last ones by name.

        Of the images that changed last, so that the answer comes in time however many there are.
        """
        stages: list[Document] = [
            {"$sort": {"indexed_at": -1}},
            {"$limit": RECENT},
            {"$project": {"of": {"$map": {"input": "$sources", "in": f"$$this.{field}"}}}},
            {"$project": {"of": {"$setUnion": ["$of"]}}},
            {"$unwind": "$of"},
            {"$match": {"of": {"$ne": None}}},
            {"$group": {"_id": "$of", "images": {"$sum": 1}}},
            {"$sort": {"_id": -1}},
            {"$limit": most},
        ]
        return {each["_id"]: each["images"] for each in await self._collection.aggregate(stages)}

    async def count_states(self) -> Counter[tuple[Status, Quality | None]]:
        """Count the present images by status and quality of their annotation.

        One pass over an index that has both.
        """
        state = {"status": "$status", "quality": "$annotation.quality"}
        stages: list[Document] = [
            {"$match": {"status": {"$in": list(PRESENT)}}},
            {"$group": {"_id": state, "images": {"$sum": 1}}},
        ]
        counts: Counter[tuple[Status, Quality | None]] = Counter()
        for each in await self._collection.aggregate(stages):
            found = each["_id"]
            counts[found["status"], found.get("quality")] = each["images"]
        return counts

    async def kept(self, document_id: str, sha256: str | None) -> Annotations:
        """Return the tombstones of these bytes."""
        if self._tombstones is None:
            return Annotations()
        return await self._tombstones.find(document_id, sha256)

    @override
    def _narrowed(self, query: Document, between: Document) -> tuple[Document, Document]:
        return narrowed(query, next(iter(between)), between)

    @override
    async def _before_write(
        self, before: ImageDocument, after: ImageDocument, *, is_inferred: bool
    ) -> None:
        """Keep annotations aside that are taken away with their bytes."""
        if self._tombstones is not None and before.ends_bytes(after):
            await self._tombstones.keep(before, is_inferred=is_inferred)

    async def annotate(
        self,
        document_id: str,
        annotation: Annotation,
        *,
        overwrite: bool | Replaces = False,
        dry_run: bool = False,
        etag: str | None = None,
        shown: Sequence[str] | None = None,
        second_share: float | None = None,
        is_reviewer: bool = True,
    ) -> AnnotationOutcome:
        """Save a person's annotation, unless it is unchanged.

        The replaced one is added to ``annotation_history``.

        Args:
            document_id: ``bucket/key``.
            annotation: The new one.
            overwrite: Whether another person's annotation may be replaced, or which.
            dry_run: Return the outcome without writing.
            etag: Of the bytes that the person saw, if known.
            shown: Predictions that the person was shown; None: unknown.
            second_share: Share of images that two people read; the person was shown no annotation.
            is_reviewer: Whether the person may change what two people have read.
        """

        def decide(document: ImageDocument) -> Decision[AnnotationOutcome]:
            if second_share is not None:
                return document.answered(annotation, share=second_share, etag=etag, shown=shown)
            decision = document.annotated(
                annotation, overwrite=overwrite, is_reviewer=is_reviewer, etag=etag, shown=shown
            )
            return Decision(decision.code, document) if dry_run else decision

        return await self.change(document_id, decide)

    async def correct(
        self,
        document_id: str,
        annotation: Annotation,
        *,
        is_reviewer: bool,
        overwrite: Replaces,
        etag: str,
        shown: Sequence[str] | None,
    ) -> AnnotationOutcome:
        """Save an annotation from the page of an image; see ``ImageDocument.corrected``."""
        return await self.change(
            document_id,
            lambda document: document.corrected(
                annotation, is_reviewer=is_reviewer, overwrite=overwrite, etag=etag, shown=shown
            ),
        )

    async def revert(self, document_id: str, **values: object) -> bool:
        """Revert an annotation with these fields; return False if the image has another, or none.

        It is identified by ``by`` and ``at``, or by ``origin``. It moves to ``annotation_history``
        with ``undone_at``; the previous one is restored from there.
        """
        now = datetime.now(tz=UTC)
        return await self.change(document_id, lambda document: document.reverted(now, **values))

    async def erase_annotations(self, document_ids: Iterable[str]) -> None:
        """Erase annotations of images and their history."""
        erased: Document = {"annotation": None, "annotation_history": []}
        has_some = [{"annotation": {"$ne": None}}, {"annotation_history.0": {"$exists": True}}]
        await self._collection.update_many(
            {"_id": {"$in": list(document_ids)}, "$or": has_some},
            {"$set": erased, "$unset": {"double_reading": ""}, "$inc": {"revision": 1}},
        )
