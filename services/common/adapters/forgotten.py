"""Block list of forgotten URLs and images.

The collection ``forgotten`` holds only SHA-256 hashes of URLs and of the bytes of images, as the
list itself is sensitive. The hashes are not keyed: four programs would have to share the key, and
readers of the collection can also read the proofs of removal, which name the sources.

See docs/decisions/0032-forgotten-images.md.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from services.common.adapters.mongo import Collection, Document
from services.common.adapters.request_batcher import RequestBatcher


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
