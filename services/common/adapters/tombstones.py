"""Annotations of images that are gone, kept aside so that they come back with the image.

An object that is deleted, lost with its disk or replaced takes its annotation out of ``images``.
Before that, the consumer copies the annotation and its history into ``tombstones``, one document
for each key and its bytes. When the same bytes are stored under the key again, they are restored.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.common.adapters.forgotten import Forgotten
from services.common.adapters.mongo import Collection, DuplicateDocumentError
from services.common.domain.annotation_history import Annotations
from services.common.domain.image import ImageDocument


@dataclass(frozen=True)
class Tombstones:
    """The ``tombstones`` collection.

    Args:
        collection: An index deletes what has expired.
        kept_for: How long annotations are kept; zero keeps none.
        forgotten: Images of which none are kept.
    """

    collection: Collection
    kept_for: timedelta
    forgotten: Forgotten

    async def keep(self, document: ImageDocument, *, is_inferred: bool) -> None:
        """Copy the annotations of a document of ``images``; repeated, it changes nothing.

        Args:
            document: As it was read; of two states of it, the later one stays.
            is_inferred: Whether the loss of its bytes is only concluded from a comparison. Then
                the copy does not expire: an inference erases no human work.

        Raises:
            IndexUnavailableError: MongoDB does not answer.
        """
        is_kept = is_inferred or self.kept_for
        if not is_kept or not (document.annotation or document.annotation_history):
            return
        if await self.forgotten.has_image(document.sha256):
            return
        now, revision = datetime.now(tz=UTC), document.revision or 0
        fields = {
            "document": document.id,
            "sha256": document.sha256,
            "annotation": document.annotation and document.annotation.to_mongo(),
            "annotation_history": [each.to_mongo() for each in document.annotation_history],
            "revision": revision,
            "kept_at": now,
            "expires_at": None if is_inferred else now + self.kept_for,
        }
        where = {"_id": _id(document.id, document.sha256), "revision": {"$lt": revision}}
        try:
            await self.collection.update_one(where, {"$set": fields}, upsert=True)
        except DuplicateDocumentError:
            return  # This state, or a later one, is there

    async def find(self, document_id: str, sha256: str | None) -> Annotations:
        """Return what is kept of an image with these bytes.

        Raises:
            IndexUnavailableError: MongoDB does not answer.
        """
        found = None
        if sha256 is not None:
            found = await self.collection.find_one({"_id": _id(document_id, sha256)})
        expires_at = (found or {}).get("expires_at")
        if found is None or (expires_at is not None and expires_at <= datetime.now(tz=UTC)):
            return Annotations()
        return ImageDocument.model_validate({**found, "_id": document_id}).annotations


async def erase_tombstones(
    tombstones: Collection, *, documents: Iterable[str], hashes: Iterable[str]
) -> int:
    """Delete what is kept of documents, and of all with the same bytes; return how many.

    Args:
        tombstones: The collection.
        documents: Their ``_id``.
        hashes: SHA-256 of bytes, in hexadecimal.

    Raises:
        IndexUnavailableError: MongoDB does not answer.
    """
    either = [{"document": {"$in": sorted(documents)}}, {"sha256": {"$in": sorted(hashes)}}]
    return await tombstones.delete_many({"$or": either})


def _id(document_id: str, sha256: str | None) -> str:
    return f"{document_id}@{sha256}"
