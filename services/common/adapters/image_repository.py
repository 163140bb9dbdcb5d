"""The ``images`` collection: two services write it, the consumer and the review service."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from typing_extensions import override

from services.common.adapters.forgotten import Tombstones
from services.common.adapters.image_query import narrowed, to_query
from services.common.adapters.mongo import Collection, Document
from services.common.adapters.repository import Repository
from services.common.domain.annotation_history import Annotations
from services.common.domain.annotations import Outcome, Replaces
from services.common.domain.image import Decision, ImageDocument, Status
from services.common.domain.image_filter import PRESENT, ImageFilter
from services.common.domain.records import Annotation, Quality

RECENT = 100_000
"""Images whose collections and batches are counted."""


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
            second_share: Share of images that two people read; the person was shown no annotation.
            is_reviewer: Whether the person may change what two people have read.
        """

        def decide(document: ImageDocument) -> Decision[Outcome]:
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
        etag: str,
        shown: Sequence[str] | None,
    ) -> Outcome:
        """Save an annotation from the page of an image; see ``ImageDocument.corrected``."""
        return await self.change(
            document_id,
            lambda document: document.corrected(
                annotation, is_reviewer=is_reviewer, etag=etag, shown=shown
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
