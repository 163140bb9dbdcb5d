"""Access to the ``fetches`` collection for other services than the fetcher.

The consumer reads provenance that does not fit object metadata, and erasure deletes submitted data.
Only the fetcher inserts items and writes outcomes.
"""

from collections.abc import AsyncIterator
from collections.abc import Collection as AnyCollection
from datetime import datetime

from services.common.adapters.documents import typed
from services.common.adapters.mongo import Collection, Document
from services.common.domain.batch_item import BatchItem


class FetchedItems:
    """Reads items of batches; every method raises IndexUnavailableError if MongoDB fails.

    Args:
        collection: ``fetches``.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    async def get(self, item_id: str) -> BatchItem | None:
        """Return an item, or None."""
        found = await self._collection.find_one({"_id": item_id})
        return None if found is None else typed(BatchItem, found)

    async def that_stored(self, key: str, *, before: datetime, limit: int) -> list[BatchItem]:
        """Return the items that led to an object before a time, oldest first."""
        where = {"key": key, "finished_at": {"$lt": before}}
        found = self._collection.find(where, sort=[("finished_at", 1)], limit=limit)
        return [typed(BatchItem, each) async for each in found]

    async def matching(
        self,
        *,
        urls: AnyCollection[str],
        patterns: AnyCollection[str] = (),
        hashes: AnyCollection[str] = (),
    ) -> AsyncIterator[BatchItem]:
        """Yield items of some URLs or with some bytes.

        Args:
            urls: As requested.
            patterns: Regular expressions of further URLs.
            hashes: SHA-256 of images.
        """
        either: list[Document] = [
            {"url": {"$in": sorted(urls)}},
            {"sha256": {"$in": sorted(hashes)}},
            *({"url": {"$regex": each}} for each in patterns),
        ]
        fields = {"url": 1, "source_url": 1, "sha256": 1, "key": 1}
        async for item in self._collection.find({"$or": either}, fields=fields):
            yield typed(BatchItem, item)

    async def erase(self, item: BatchItem) -> bool:
        """Erase an item's submitted data, except its redacted URL and outcome.

        Returns whether it exists.
        """
        gone: Document = dict.fromkeys(
            ("annotation", "validators", "detail", "metadata", "group", "page_line")
        )
        gone["url"] = gone["source_url"] = item.source_url or item.url
        return await self._collection.update_one({"_id": item.id}, {"$set": gone})
