"""Repository of the ``images`` collection: typed documents and the only compare-and-set on them.

The consumer, the review service and commands write it, each only if the document's ``revision`` is
unchanged since it was read; otherwise they read and decide again.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import ValidationError

from services.common.adapters.mongo import (
    Collection,
    Document,
    DuplicateDocumentError,
    Filter,
    Sort,
)
from services.common.adapters.tombstones import Tombstones
from services.common.domain.annotation_history import Annotations
from services.common.domain.annotations import Outcome, Replaces
from services.common.domain.errors import PermanentError
from services.common.domain.image import Decision, ImageDocument
from services.common.domain.records import Annotation

C = TypeVar("C")


class InvalidDocumentError(PermanentError):
    """A document of ``images`` does not match its type."""

    code = "invalid_document"


class ImageRepository:
    """Reads and changes the documents of images.

    Every method raises IndexUnavailableError if MongoDB does not answer, and InvalidDocumentError
    if a document does not match the type.

    Args:
        collection: ``images``.
        tombstones: Stores annotations of removed bytes; only the consumer has it.
    """

    def __init__(self, collection: Collection, tombstones: Tombstones | None = None) -> None:
        self._collection = collection
        self._tombstones = tombstones

    async def get(self, document_id: str) -> ImageDocument | None:
        """Return a document, or None."""
        found = await self._collection.find_one({"_id": document_id})
        return None if found is None else _to_document(found)

    async def load(self, document_id: str) -> ImageDocument:
        """Return a document, or an empty one if it does not exist."""
        return await self.get(document_id) or ImageDocument.absent(document_id)

    async def find(
        self,
        where: Filter,
        *,
        sort: Sort = (),
        limit: int = 0,
        fields: Mapping[str, int] | None = None,
    ) -> AsyncIterator[ImageDocument]:
        """Yield matching documents, with all or some of their fields (``limit`` 0: no limit)."""
        async for found in self._collection.find(where, sort=sort, limit=limit, fields=fields):
            yield _to_document(found)

    async def count(self, where: Filter, *, most: int | None = None) -> int:
        """Count matching documents, up to ``most``."""
        return await self._collection.count(where, most=most)

    async def kept(self, document_id: str, sha256: str | None) -> Annotations:
        """Return the tombstones of these bytes."""
        if self._tombstones is None:
            return Annotations()
        return await self._tombstones.find(document_id, sha256)

    async def change(
        self,
        document_id: str,
        decide: Callable[[ImageDocument], Decision[C]],
        *,
        is_inferred: bool = False,
    ) -> C:
        """Apply a decision to a document by compare-and-set; return its code.

        Args:
            document_id: ``bucket/key``.
            decide: Makes the decision; called again after a conflict.
            is_inferred: Whether it follows from a comparison, not from an event.
        """
        while True:
            before = await self.load(document_id)
            code, after = decide(before)
            if await self.save(before, after, is_inferred=is_inferred):
                return code

    async def save(
        self, before: ImageDocument, after: ImageDocument, *, is_inferred: bool = False
    ) -> bool:
        """Write the difference of two states of a document by compare-and-set.

        Annotations that are removed with their bytes become tombstones first.

        Args:
            before: As read.
            after: New state; nothing is written if equal.
            is_inferred: Whether it follows from a comparison, not from an event.

        Returns:
            Whether it was written; False: the document has changed since it was read.
        """
        changed = {
            name
            for name in after.model_fields_set
            if name not in before.model_fields_set or getattr(after, name) != getattr(before, name)
        }
        if not changed:
            return True
        if self._tombstones is not None and before.ends_bytes(after):
            await self._tombstones.keep(before, is_inferred=is_inferred)
        return await self._write(before, after, changed)

    async def _write(self, before: ImageDocument, after: ImageDocument, changed: set[str]) -> bool:
        if before.exists:
            as_read = {"_id": before.id, "revision": before.revision}
            return await self._collection.update_one(as_read, _update(before, after, changed))
        with suppress(DuplicateDocumentError):
            await self._collection.insert({**after.to_mongo(), "revision": 1})
            return True
        return False

    async def annotate(
        self,
        document_id: str,
        annotation: Annotation,
        *,
        overwrite: bool | Replaces = False,
        dry_run: bool = False,
        etag: str | None = None,
        shown: Sequence[str] | None = None,
    ) -> Outcome:
        """Save a person's annotation, unless it is unchanged.

        The replaced one is added to ``annotation_history``.

        Args:
            document_id: ``bucket/key``.
            annotation: The new one.
            overwrite: Whether another person's annotation may be replaced, or which.
            dry_run: Return the outcome without writing.
            etag: Of the bytes that the person saw, if known.
            shown: Predictions that the person was shown; None: unknown.
        """

        def decide(document: ImageDocument) -> Decision[Outcome]:
            decision = document.annotated(annotation, overwrite=overwrite, etag=etag, shown=shown)
            return Decision(decision.code, document) if dry_run else decision

        return await self.change(document_id, decide)

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
            {"$set": erased, "$inc": {"revision": 1}},
        )


def _to_document(found: Document) -> ImageDocument:
    try:
        return ImageDocument.model_validate(found)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise InvalidDocumentError(f"{found['_id']}: {where}: {problem['msg']}") from error


def _update(before: ImageDocument, after: ImageDocument, changed: set[str]) -> Document:
    """Return the update that sets fields, with ``$push`` for a list that only grew.

    An image may have a thousand sources, each added by an event.
    """
    fields, grown = after.to_mongo(only=changed), {}
    for name in changed:
        known, value = getattr(before, name), getattr(after, name)
        if isinstance(known, tuple) and known and value[: len(known)] == known:
            grown[name] = {"$each": fields.pop(name)[len(known) :]}
    update: Document = {"$inc": {"revision": 1}}
    return update | ({"$set": fields} if fields else {}) | ({"$push": grown} if grown else {})
