"""The ``batches`` collection: the only place that knows the names of its fields.

Several fetchers write it. Each change says in its filter of what state it is a change, so that
none undoes another's.
"""

from collections.abc import Collection as AnyCollection
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from services.common.adapters.documents import typed
from services.common.adapters.mongo import Collection, Document
from services.common.domain.batch import NOTHING, Batch, Counts, PageProgress, RetryScope
from services.common.domain.errors import PermanentError

_COUNTED = {"counted", "kept", "failure_codes", "size_bytes", "finished_at"}
UNCOUNTED: Document = {
    f"pages.{name}": value for name, value in PageProgress().model_dump(include=_COUNTED).items()
}
"""Forgets what is counted for good: a retry makes items undone."""


class BatchNotFoundError(PermanentError):
    """The batch does not exist."""

    code = "batch_not_found"


class BatchRepository:
    """Reads and changes batches; every method raises IndexUnavailableError where MongoDB fails.

    Args:
        collection: ``batches``.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    async def get(self, batch_id: str) -> Batch:
        """Return a batch whose list is written down.

        Raises:
            BatchNotFoundError: It does not exist.
        """
        found = await self._collection.find_one({"_id": batch_id, "loaded": True})
        if found is None:
            raise BatchNotFoundError(f"no batch {batch_id!r}"[:200])
        return typed(Batch, found)

    async def newest(self, *, after: str | None, limit: int) -> list[Batch]:
        """Return batches, newest first, after the id ``after``."""
        where: Document = {"loaded": True}
        if after is not None:
            where["_id"] = {"$lt": after}
        found = self._collection.find(where, sort=[("_id", -1)], limit=limit)
        return [typed(Batch, each) async for each in found]

    async def with_key(self, idempotency_key: str) -> Batch | None:
        """Return the batch that a client gave this key, written down whole or not."""
        found = await self._collection.find_one({"idempotency_key": idempotency_key})
        return None if found is None else typed(Batch, found)

    async def cancelled(self, batch_ids: AnyCollection[str]) -> set[str]:
        """Return which of these batches were cancelled."""
        where = {"_id": {"$in": list(batch_ids)}, "cancelled_at": {"$ne": None}}
        return {each["_id"] async for each in self._collection.find(where, fields={"_id": 1})}

    # Lists that are being taken

    async def add(self, batch: Batch) -> None:
        """Write down a batch whose list follows.

        Raises:
            DuplicateDocumentError: Its idempotency key belongs to another.
        """
        no_key = set() if batch.idempotency_key else {"idempotency_key"}  # its index is sparse
        await self._collection.insert(batch.model_dump(by_alias=True, exclude=no_key))

    async def touch(self, batch_id: str) -> bool:
        """Note that a list is in use; return whether it is there, and not given up."""
        now = {"$set": {"touched_at": datetime.now(tz=UTC)}}
        return await self._collection.update_one({"_id": batch_id, "is_given_up": False}, now)

    async def load(self, batch: Batch) -> bool:
        """Note that a list is written down whole; return False where it was given up.

        Another process may have noted the same.
        """
        whole = batch.model_dump(include={"accepted", "rejected", "rejected_count", "reading"})
        whole |= {"loaded": True, "pages.count": batch.pages.count}
        where = {"_id": batch.id, "loaded": False, "is_given_up": False}
        if await self._collection.update_one(where, {"$set": whole}):
            return True
        return await self._collection.count({"_id": batch.id, "loaded": True}) > 0

    async def give_up(self, *, unused_since: datetime) -> Batch | None:
        """Give up one batch whose list never came whole; from now on its key begins another."""
        old = {"loaded": False, "touched_at": {"$lt": unused_since}}
        change = {"$set": {"is_given_up": True}, "$unset": {"idempotency_key": ""}}
        found = await self._collection.find_and_update(old, change)
        return None if found is None else typed(Batch, found)

    async def delete_unfinished(self, batch_id: str) -> None:
        """Delete a batch unless its list is written down whole."""
        await self._collection.delete_many({"_id": batch_id, "loaded": False})

    # What people ask for

    async def ask_for_retry(self, batch_id: str, scope: RetryScope, *, ours: timedelta) -> None:
        """Note a retry, which the dispatcher carries out unless we do within ``ours``."""
        leased = {"dispatch.owner": None, "dispatch.leased_until": datetime.now(tz=UTC) + ours}
        await self._dispatch_anew({"_id": batch_id}, {"requeue": scope, **leased, **UNCOUNTED})

    async def note_retry(self, batch_id: str) -> None:
        """Note that a retry was carried out."""
        free = {"dispatch.leased_until": datetime.now(tz=UTC)}
        await self._dispatch_anew({"_id": batch_id}, {"requeue": None, **free, **UNCOUNTED})

    async def cancel(self, batch_id: str) -> None:
        """Cancel a batch, unless it is."""
        where = {"_id": batch_id, "cancelled_at": None}
        await self._dispatch_anew(where, {"cancelled_at": datetime.now(tz=UTC)})

    async def _dispatch_anew(self, where: Document, fields: Document) -> None:
        """Update a batch and restart its dispatch."""
        again = {"dispatch.done": False, "dispatch.after": ""}
        change = {"$set": {**fields, **again}, "$inc": {"dispatch.version": 1}}
        await self._collection.update_one(where, change)

    # Publishing

    async def lease(self, owner: str, *, seconds: float, but: AnyCollection[str]) -> Batch | None:
        """Lease the batch that has waited longest to be published, among those without lease.

        Args:
            owner: New holder; may renew its own lease.
            seconds: Duration of the lease.
            but: Batches to skip.
        """
        now = datetime.now(tz=UTC)
        where = {
            "_id": {"$nin": list(but)},
            "dispatch.done": False,
            "loaded": True,
            "$or": [{"dispatch.leased_until": {"$lt": now}}, {"dispatch.owner": owner}],
        }
        until = now + timedelta(seconds=seconds)
        lease = {"$set": {"dispatch.owner": owner, "dispatch.leased_until": until}}
        sort = [("dispatch.leased_until", 1)]
        found = await self._collection.find_and_update(where, lease, sort=sort)
        return None if found is None else typed(Batch, found)

    async def note_published(self, batch: Batch) -> None:
        """Note the pages and items that are published, whatever was asked for meanwhile."""
        pages = batch.pages
        written = {"pages.next": pages.next, "pages.published": pages.published}
        await self._collection.update_one({"_id": batch.id}, {"$max": written})

    async def release(self, batch: Batch) -> None:
        """End a lease, and write progress unless a person asked for something else meanwhile."""
        dispatch, mine = batch.dispatch, {"_id": batch.id, "dispatch.owner": batch.dispatch.owner}
        released = {"dispatch.leased_until": datetime.now(tz=UTC)}
        progress = {"dispatch.done": dispatch.done, "dispatch.after": dispatch.after}
        is_current = await self._collection.update_one(
            {**mine, "dispatch.version": dispatch.version},
            {"$set": {"requeue": batch.requeue, **progress, **released}},
        )
        if not is_current:
            await self._collection.update_one(mine, {"$set": released})

    async def keep_counts(self, batch: Batch, done: Mapping[int, Counts]) -> None:
        """Add what was counted of pages that are done, unless another did, or a retry came.

        Args:
            batch: As it was read before they were counted.
            done: Counts by the pages' numbers.
        """
        total, numbers = sum(done.values(), start=NOTHING), sorted(done)
        change: Document = {
            "$push": {"pages.counted": {"$each": numbers}},
            "$inc": {
                **{f"pages.kept.{each}": count for each, count in total.by_outcome.items()},
                **{f"pages.failure_codes.{code}": n for code, n in total.failure_codes.items()},
                "pages.size_bytes": total.size_bytes,
            },
        }
        if total.finished_at is not None:
            change["$max"] = {"pages.finished_at": total.finished_at}
        where = {
            "_id": batch.id,
            "requeue": None,
            "dispatch.version": batch.dispatch.version,
            "pages.counted": {"$nin": numbers},
        }
        await self._collection.update_one(where, change)
