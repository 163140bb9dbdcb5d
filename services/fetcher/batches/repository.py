"""The ``batches`` collection, and what people do with a batch.

A batch is only ever described by facts that its documents hold: state and counts are derived, so
that they cannot disagree with the items.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from services.common.adapters.mongo import Collection, Document
from services.common.domain.batch_item import BatchItem, ItemOutcome
from services.common.domain.errors import PermanentError
from services.common.domain.provenance import DEFAULT_COLLECTION
from services.fetcher.batches.counting import UNCOUNTED, Counting
from services.fetcher.batches.dispatcher import LEASE
from services.fetcher.batches.expander import Expander
from services.fetcher.batches.ledger import Counts, Ledger, RetryScope
from services.fetcher.batches.listing import Listing
from services.fetcher.batches.pages import Pages
from services.fetcher.batches.requeuing import requeue


class BatchState(StrEnum):
    """Where a batch stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class BatchNotFoundError(PermanentError):
    """There is no such batch."""

    code = "batch_not_found"


class BatchConflictError(PermanentError):
    """The batch is in a state in which this cannot be done."""

    code = "batch_conflict"


@dataclass(frozen=True)
class Batch:
    """A batch as it stands."""

    batch_id: str
    name: str | None
    kind: str
    collection: str
    list_url: str | None
    """Where its list is from, without secrets; None where the list itself was sent."""
    created_at: datetime
    state: BatchState
    counts: Counts


class Batches:
    """Shows, retries and cancels batches.

    Args:
        collection: The ``batches`` collection.
        ledger: Their items.
        pages: Their lists.
        wake: Set when a batch has something to be dispatched.
    """

    def __init__(
        self, collection: Collection, ledger: Ledger, pages: Pages, wake: asyncio.Event
    ) -> None:
        self._collection = collection
        self._ledger = ledger
        self._counting = Counting(collection, ledger, pages)
        self._listing = Listing(ledger, pages)
        self._expander = Expander(pages)
        self._wake = wake

    async def find(self, batch_id: str) -> Batch:
        """Return a batch as it stands.

        Raises:
            BatchNotFoundError: There is none.
        """
        return await self._to_batch(await self._document(batch_id))

    async def page(self, *, after: str | None, limit: int) -> list[Batch]:
        """Return batches, the newest first, from behind the id ``after``."""
        where: Document = {"loaded": True}
        if after is not None:
            where["_id"] = {"$lt": after}
        found = self._collection.find(where, sort=[("_id", -1)], limit=limit)
        return [await self._to_batch(document) async for document in found]

    async def items(
        self, batch_id: str, *, outcome: ItemOutcome | None, after: str, limit: int
    ) -> list[BatchItem]:
        """Return a batch's items in the list's order.

        Raises:
            BatchNotFoundError: There is no such batch.
        """
        document = await self._document(batch_id)
        return await self._listing.page(document, outcome=outcome, after=after, limit=limit)

    async def failed(self, batch_id: str) -> AsyncIterator[BatchItem]:
        """Return all failed items of a batch, in the list's order.

        Raises:
            BatchNotFoundError: There is no such batch.
        """
        await self._document(batch_id)
        return self._ledger.items(batch_id, outcome=ItemOutcome.FAILED)

    async def retry(self, batch_id: str, scope: RetryScope) -> int:
        """Queue again what failed, and what may be lost on its way; return how many.

        Raises:
            BatchNotFoundError: There is no such batch.
            BatchConflictError: It was cancelled.
        """
        document = await self._document(batch_id)
        if document["cancelled_at"] is not None:
            raise BatchConflictError("the batch was cancelled: submit its list again")
        # the intention first: whoever dispatches carries it out if this process dies here, but not
        # before the lease ran out, since who counts here must be the only one to requeue
        ours = {"dispatch.owner": None, "dispatch.leased_until": datetime.now(tz=UTC) + LEASE}
        await self._redispatch({"_id": batch_id}, {"requeue": scope, **ours, **UNCOUNTED})
        requeued = await requeue(document, scope, self._ledger, self._expander)
        free = {"dispatch.leased_until": datetime.now(tz=UTC)}
        await self._redispatch({"_id": batch_id}, {"requeue": None, **free, **UNCOUNTED})
        self._wake.set()
        return requeued

    async def cancel(self, batch_id: str) -> None:
        """Call off what is still queued; cancelling twice is no error.

        Raises:
            BatchNotFoundError: There is no such batch.
            BatchConflictError: It is completed.
        """
        batch = await self.find(batch_id)
        if batch.state is BatchState.COMPLETED:
            raise BatchConflictError("the batch is completed")
        where = {"_id": batch_id, "cancelled_at": None}
        await self._redispatch(where, {"cancelled_at": datetime.now(tz=UTC)})
        self._wake.set()
        await self._ledger.cancel(batch_id)

    async def _redispatch(self, where: Document, fields: Document) -> None:
        """Change a batch and have the dispatcher look at all of it again."""
        again = {"dispatch.done": False, "dispatch.after": ""}
        change = {"$set": {**fields, **again}, "$inc": {"dispatch.version": 1}}
        await self._collection.update_one(where, change)

    async def _document(self, batch_id: str) -> Document:
        document = await self._collection.find_one({"_id": batch_id, "loaded": True})
        if document is None:
            raise BatchNotFoundError(f"there is no batch {batch_id!r}"[:200])
        return document

    async def _to_batch(self, document: Document) -> Batch:
        return _to_batch(document, await self._counting.count(document))


def _to_batch(document: Document, counts: Counts) -> Batch:
    state = BatchState.COMPLETED if counts.queued == 0 else BatchState.RUNNING
    if document["cancelled_at"] is not None:
        state = BatchState.CANCELLED
    return Batch(
        batch_id=document["_id"],
        name=document["name"],
        kind=document.get("kind", "url"),
        collection=document.get("collection", DEFAULT_COLLECTION),
        list_url=document["list_url"],
        created_at=document["created_at"],
        state=state,
        counts=counts,
    )
