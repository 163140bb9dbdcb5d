"""URLs that are not to be fetched again, as somebody asked for their images to be forgotten.

The collection ``forgotten`` holds the SHA-256 of each URL and not the URL: the list of what people
wanted forgotten is itself worth protecting. It has no key: the fetcher, the review page and the
command line would have to share one, and whoever can read the collection can read the proofs of
removal, which name the sources, as well.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from services.common.adapters.mongo import Collection, Document
from services.common.adapters.request_batcher import Grouped


class ForgottenUrls:
    """The ``forgotten`` collection.

    Args:
        collection: Where the hashes are.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._has = Grouped(self._has_each)

    async def add(self, urls: Iterable[str]) -> int:
        """Keep URLs from being fetched; return how many were not there.

        Raises:
            IndexUnavailableError: MongoDB does not answer.
        """
        now = datetime.now(tz=UTC)
        documents: list[Document] = [{"_id": _hash(url), "at": now} for url in sorted(set(urls))]
        return len(documents) - len(await self._collection.insert_missing(documents))

    async def remove(self, urls: Iterable[str]) -> int:
        """Let URLs be fetched again; return how many were not to be.

        Raises:
            IndexUnavailableError: MongoDB does not answer.
        """
        return await self._collection.delete_many({"_id": {"$in": [_hash(url) for url in urls]}})

    async def has(self, url: str) -> bool:
        """Whether a URL is not to be fetched.

        Raises:
            IndexUnavailableError: MongoDB does not answer.
        """
        return await self._has(url)

    async def _has_each(self, urls: Sequence[str]) -> Sequence[bool]:
        hashes = [_hash(url) for url in urls]
        found = self._collection.find({"_id": {"$in": list(set(hashes))}})
        there = {document["_id"] async for document in found}
        return [each in there for each in hashes]


def _hash(url: str) -> str:
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
