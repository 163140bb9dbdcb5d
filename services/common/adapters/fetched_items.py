"""Access to the ``fetches`` collection for other services than the fetcher.

The consumer reads provenance that does not fit object metadata, and erasure deletes submitted data.
Only the fetcher inserts items and writes outcomes.
"""

from collections.abc import AsyncIterator
from collections.abc import Collection as AnyCollection
from dataclasses import replace
from datetime import datetime

import structlog

from services.common.adapters.mongo import Collection, Document
from services.common.adapters.repository import typed
from services.common.domain.batch_item import BatchItem
from services.common.domain.details import ERASED
from services.common.domain.errors import TransientError
from services.common.domain.events import ObjectEvent
from services.common.domain.keys import FETCHED
from services.common.domain.provenance import FETCHED_KINDS, Provenance, completed, from_metadata

log = structlog.stdlib.get_logger(__name__)


class FetchNotFoundError(TransientError):
    """An object refers to a fetch that is not recorded (yet)."""

    code = "fetch_not_found"


class FetchedItems:
    """Reads items of batches; every method raises DatabaseUnavailableError if MongoDB fails."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    async def get(self, item_id: str) -> BatchItem | None:
        """Return an item, or None."""
        found = await self._collection.find_one({"_id": item_id})
        return None if found is None else typed(BatchItem, found)

    async def provenance_of(self, event: ObjectEvent, *, is_last_attempt: bool) -> Provenance:
        """Return where a stored object is from, by its metadata or the item that this refers to.

        Raises:
            FetchNotFoundError: That item is not recorded (yet).
        """
        provenance = from_metadata(event.metadata)
        if provenance.fetch_id is None:
            known = completed(provenance, event.key, event.occurred_at)
            is_outdated = known.kind in FETCHED_KINDS and not known.collection
            if is_outdated and known.batch_id and event.key.startswith(FETCHED):
                where = {"key": event.key, "batch_id": known.batch_id}
                if (found := await self._collection.find_one(where)) is not None:
                    known = replace(known, collection=typed(BatchItem, found).collection)
            return known
        item = await self.get(provenance.fetch_id)
        if item is None:
            if is_last_attempt:  # index the object without its source
                log.warning("fetch not found", id=event.document_id, fetch_id=provenance.fetch_id)
                return provenance
            raise FetchNotFoundError(f"fetch {provenance.fetch_id!r} not found"[:200])
        known = item.provenance(provenance.fetched_at)
        return replace(known, source_url=provenance.source_url or known.source_url)

    async def that_stored(self, key: str, *, before: datetime, limit: int) -> list[BatchItem]:
        """Return the items that led to an image before a time, oldest first."""
        where = {"key": key, "is_page": None, "finished_at": {"$lt": before}}
        found = self._collection.find(where, sort=[("finished_at", 1)], limit=limit)
        return [typed(BatchItem, each) async for each in found]

    async def matching(
        self,
        *,
        urls: AnyCollection[str],
        patterns: AnyCollection[str] = (),
        hashes: AnyCollection[str] = (),
    ) -> AsyncIterator[BatchItem]:
        """Yield items of some URLs or with some bytes."""
        either: list[Document] = [
            {"url": {"$in": sorted(urls)}},
            {"sha256": {"$in": sorted(hashes)}},
            *({"url": {"$regex": each}} for each in patterns),
        ]
        fields = {"url": 1, "source_url": 1, "sha256": 1, "key": 1, "is_page": 1}
        async for item in self._collection.find({"$or": either}, fields=fields):
            yield typed(BatchItem, item)

    async def erase(self, item: BatchItem) -> bool:
        """Erase an item's submitted data, except its redacted URL and outcome.

        Returns whether it exists.
        """
        gone: Document = dict.fromkeys(("annotation", "validators", "detail", "page_line", *ERASED))
        gone["url"] = gone["source_url"] = item.source_url or item.url
        return await self._collection.update_one({"_id": item.id}, {"$set": gone})
