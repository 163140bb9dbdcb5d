"""Block list of forgotten images, and tombstones of removed ones.

The collection ``forgotten`` holds only SHA-256 hashes of URLs and of the bytes of images, as the
list itself is sensitive. The hashes are not keyed: four programs would have to share the key, and
readers of the collection can also read the proofs of removal, which name the sources.

When an object is deleted, lost or replaced, its annotation leaves ``images``. Before that, the
consumer copies the annotation and its history into ``tombstones``, one document per key and bytes.
When the same bytes are stored under the key again, they are restored.

See docs/decisions/0032-forgotten-images.md.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.common.adapters.mongo import Collection, Document
from services.common.adapters.request_batcher import RequestBatcher
from services.common.domain.annotation_history import Annotations
from services.common.domain.errors import DuplicateDocumentError
from services.common.domain.image import ImageDocument


class Forgotten:
    """The ``forgotten`` collection."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._has = RequestBatcher(self._has_each)

    async def add(
        self, urls: Iterable[str] = (), images: Mapping[str, Iterable[str]] | None = None
    ) -> None:
        """Block URLs and images.

        Args:
            urls: Not to fetch again.
            images: By the SHA-256 of an image's bytes, those of other files that show the same.
        """
        now = datetime.now(tz=UTC)
        documents: list[Document] = [{"_id": _of_url(url), "at": now} for url in sorted(set(urls))]
        for sha256, others in (images or {}).items():
            documents += [
                {"_id": _of_image(each), "of": _of_image(sha256), "at": now}
                for each in sorted({sha256, *others})
            ]
        await self._collection.insert_missing(documents)

    async def remove(self, urls: Iterable[str] = (), images: Iterable[str] = ()) -> None:
        """Allow URLs and images (by their SHA-256) again."""
        of_images = [_of_image(each) for each in images]
        ids = [*map(_of_url, urls), *of_images]
        either = [{"_id": {"$in": ids}}, {"of": {"$in": of_images}}]
        await self._collection.delete_many({"$or": either})

    async def has_url(self, url: str) -> bool:
        """Return whether a URL is blocked."""
        return await self._has(_of_url(url))

    async def has_image(self, sha256: str | None) -> bool:
        """Return whether an image with these bytes is blocked."""
        return sha256 is not None and await self._has(_of_image(sha256))

    async def _has_each(self, ids: Sequence[str]) -> Sequence[bool]:
        found = self._collection.find({"_id": {"$in": sorted(set(ids))}})
        there = {document["_id"] async for document in found}
        return [each in there for each in ids]


def _of_url(url: str) -> str:
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()


def _of_image(sha256: str) -> str:
    return f"image:{sha256}"


@dataclass(frozen=True)
class Tombstones:
    """The ``tombstones`` collection.

    Args:
        collection: Has a TTL index.
        kept_for: Time to expiry; zero: none are stored.
        forgotten: Images whose annotations are not stored.
    """

    collection: Collection
    kept_for: timedelta
    forgotten: Forgotten

    async def keep(self, document: ImageDocument, *, is_inferred: bool) -> None:
        """Copy the annotations of a document of ``images`` (idempotent).

        Args:
            document: As read; a later state replaces an earlier one.
            is_inferred: Whether the loss of its bytes was inferred from a comparison. Then the
                copy does not expire, as people's work must not be lost by an inference.
        """
        is_kept = is_inferred or self.kept_for
        if not is_kept or not (document.annotation or document.annotation_history):
            return
        if await self.forgotten.has_image(document.sha256):
            return
        now, revision = datetime.now(tz=UTC), document.revision or 0
        double = document.double_reading
        fields = {
            "document": document.id,
            "sha256": document.sha256,
            "annotation": document.annotation and document.annotation.to_mongo(),
            "annotation_history": [each.to_mongo() for each in document.annotation_history],
            "double_reading": double and double.to_mongo(),
            "revision": revision,
            "kept_at": now,
            "expires_at": None if is_inferred else now + self.kept_for,
        }
        where = {"_id": _id(document.id, document.sha256), "revision": {"$lt": revision}}
        try:
            await self.collection.update_one(where, {"$set": fields}, upsert=True)
        except DuplicateDocumentError:
            return  # This state, or a later one, is stored already

    async def find(self, document_id: str, sha256: str | None) -> Annotations:
        """Return the tombstones of an image with these bytes."""
        found = None
        if sha256 is not None:
            found = await self.collection.find_one({"_id": _id(document_id, sha256)})
        expires_at = (found or {}).get("expires_at")
        if found is None or (expires_at is not None and expires_at <= datetime.now(tz=UTC)):
            return Annotations()
        kept = ImageDocument.model_validate({**found, "_id": document_id})
        return kept.annotations._replace(double=kept.double_reading)


async def erase_tombstones(
    tombstones: Collection, *, documents: Iterable[str], hashes: Iterable[str]
) -> int:
    """Delete the tombstones of documents and of all with the same bytes; return their number.

    Args:
        tombstones: The collection.
        documents: Their ``_id``.
        hashes: SHA-256 of bytes, in hexadecimal.
    """
    either = [{"document": {"$in": sorted(documents)}}, {"sha256": {"$in": sorted(hashes)}}]
    return await tombstones.delete_many({"$or": either})


def _id(document_id: str, sha256: str | None) -> str:
    return f"{document_id}@{sha256}"
