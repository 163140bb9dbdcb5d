"""Repository of the ``batches`` collection, and detection of cancelled batches.

Several fetchers write it. The filter of each change contains the expected state, so that no change
is lost.
"""

import asyncio
import time
from collections.abc import Collection as AnyCollection
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import structlog

from services.common.adapters.mongo import Collection, Document
from services.common.adapters.repository import typed
from services.common.adapters.request_batcher import RequestBatcher
from services.common.domain.batch import NO_ITEMS, Batch, Counts, PageProgress, RetryScope
from services.common.domain.errors import PermanentError, PipelineError, UnavailableError
from services.common.runtime.periodic import periodic

_COUNTED = {"counted", "kept", "failure_codes", "size_bytes", "finished_at"}
UNCOUNTED: Document = {
    f"pages.{name}": value for name, value in PageProgress().model_dump(include=_COUNTED).items()
}
"""Resets the totals, as a retry requeues items."""

log = structlog.stdlib.get_logger(__name__)

REMEMBERED_SECONDS = 0.5
"""Polling interval: a cancelled batch stops within twice this time, in every fetcher."""


class BatchNotFoundError(PermanentError):
    """The batch does not exist."""

    code = "batch_not_found"


class BatchRepository:
    """Reads and changes batches; every method raises DatabaseUnavailableError if MongoDB fails."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    async def get(self, batch_id: str) -> Batch:
        """Return a batch with a complete list.

        Raises:
            BatchNotFoundError: It does not exist.
        """
        found = await self._collection.find_one({"_id": batch_id, "loaded": True})
        if found is None:
            raise BatchNotFoundError(f"no batch {batch_id!r}"[:200])
        return typed(Batch, found)

    async def newest(self, *, after: str | None, limit: int) -> list[Batch]:
        """Return batches without their rejected rows, newest first, after the id ``after``."""
        where: Document = {"loaded": True}
        if after is not None:
            where["_id"] = {"$lt": after}
        fields = {"rejected": 0, "reading": 0}
        found = self._collection.find(where, sort=[("_id", -1)], limit=limit, fields=fields)
        return [typed(Batch, each) async for each in found]

    async def with_key(self, idempotency_key: str) -> Batch | None:
        """Return the batch with this idempotency key, complete or not."""
        found = await self._collection.find_one({"idempotency_key": idempotency_key})
        return None if found is None else typed(Batch, found)

    async def cancelled(self, batch_ids: AnyCollection[str]) -> set[str]:
        """Return which of these batches were cancelled."""
        where = {"_id": {"$in": list(batch_ids)}, "cancelled_at": {"$ne": None}}
        return {each["_id"] async for each in self._collection.find(where, fields={"_id": 1})}

    # Lists being received

    async def add(self, batch: Batch) -> None:
        """Insert a batch, before its list.

        Raises:
            DuplicateDocumentError: Its idempotency key belongs to another.
        """
        no_key = set() if batch.idempotency_key else {"idempotency_key"}  # its index is sparse
        await self._collection.insert(batch.model_dump(by_alias=True, exclude=no_key))

    async def touch(self, batch_id: str) -> bool:
        """Refresh the heartbeat of a list; return whether it exists and is not given up."""
        now = {"$set": {"touched_at": datetime.now(tz=UTC)}}
        return await self._collection.update_one({"_id": batch_id, "is_given_up": False}, now)

    async def load(self, batch: Batch) -> bool:
        """Mark a list as complete; return False if it was given up.

        Another process may have done so.
        """
        said = {"accepted", "rejected", "rejected_count", "reading", "licence"}
        whole = batch.model_dump(include=said)
        whole |= {"loaded": True, "pages.count": batch.pages.count}
        where = {"_id": batch.id, "loaded": False, "is_given_up": False}
        if await self._collection.update_one(where, {"$set": whole}):
            return True
        return await self._collection.count({"_id": batch.id, "loaded": True}) > 0

    async def give_up(self, *, unused_since: datetime) -> Batch | None:
        """Give up one batch with an incomplete list; its key can be used again."""
        old = {"loaded": False, "touched_at": {"$lt": unused_since}}
        change = {"$set": {"is_given_up": True}, "$unset": {"idempotency_key": ""}}
        found = await self._collection.find_and_update(old, change)
        return None if found is None else typed(Batch, found)

    async def delete_unfinished(self, batch_id: str) -> None:
        """Delete a batch, unless its list is complete."""
        await self._collection.delete_many({"_id": batch_id, "loaded": False})

    # Requests of people

    async def ask_for_retry(self, batch_id: str, scope: RetryScope, *, ours: timedelta) -> None:
        """Record a retry; the dispatcher executes it after ``ours``, unless this process did."""
        leased = {"dispatch.owner": None, "dispatch.leased_until": datetime.now(tz=UTC) + ours}
        await self._restart_dispatch({"_id": batch_id}, {"requeue": scope, **leased, **UNCOUNTED})

    async def note_retry(self, batch_id: str) -> None:
        """Mark a retry as executed."""
        free = {"dispatch.leased_until": datetime.now(tz=UTC)}
        await self._restart_dispatch({"_id": batch_id}, {"requeue": None, **free, **UNCOUNTED})

    async def cancel(self, batch_id: str) -> None:
        """Cancel a batch, unless it is."""
        where = {"_id": batch_id, "cancelled_at": None}
        await self._restart_dispatch(where, {"cancelled_at": datetime.now(tz=UTC)})

    async def _restart_dispatch(self, where: Document, fields: Document) -> None:
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
        """Record published pages and items unconditionally."""
        pages = batch.pages
        written = {"pages.next": pages.next, "pages.published": pages.published}
        await self._collection.update_one({"_id": batch.id}, {"$max": written})

    async def release(self, batch: Batch) -> None:
        """End a lease, and write the position unless the batch was retried or cancelled."""
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
        """Add counts of finished pages to the totals, unless done already or after a retry.

        Args:
            batch: As read before counting.
            done: Counts by number of the page.
        """
        total, numbers = sum(done.values(), start=NO_ITEMS), sorted(done)
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


class BatchCancelledError(PipelineError):
    """The batch of a running or waiting item was cancelled."""

    code = "cancelled"


class Cancellations:
    """Polls the state of all batches with running items."""

    def __init__(self, batches: BatchRepository) -> None:
        self._batches = batches
        self._answers: dict[str, tuple[float, bool]] = {}
        self._asking = RequestBatcher(self._ask)
        self._works: dict[str, set[asyncio.Task[object]]] = {}

    async def is_cancelled(self, batch_id: str) -> bool:
        """Return whether a batch was cancelled."""
        now = time.monotonic()
        known = self._answers.get(batch_id)
        if known is not None and known[0] > now:
            return known[1]
        return await self._asking(batch_id)

    @contextmanager
    def watched(self, batch_id: str) -> Iterator[None]:
        """Interrupt the block when the batch is cancelled.

        Raises:
            BatchCancelledError: The batch was cancelled.
        """
        if (task := asyncio.current_task()) is None:
            raise RuntimeError("not in a task")
        works = self._works.setdefault(batch_id, set())
        works.add(task)
        try:
            yield
        except asyncio.CancelledError:
            # Removed by run(): its cancellation, unless the task was cancelled otherwise, too
            if task in works or task.uncancel() > 0:
                raise
            raise BatchCancelledError(batch_id) from None
        finally:
            works.discard(task)
            if not works:
                self._works.pop(batch_id, None)

    async def run(self, stop: asyncio.Event) -> None:
        """Interrupt items of cancelled batches, until ``stop`` is set."""
        await periodic(self._interrupt, stop, seconds=REMEMBERED_SECONDS)

    async def _interrupt(self) -> None:
        if not self._works:
            return
        try:
            await self._ask(list(self._works))
        except UnavailableError as error:
            log.warning("look-up of cancelled batches failed", error=str(error))
        for batch_id in list(self._works):
            if self._answers.get(batch_id, (0.0, False))[1]:
                works = self._works.pop(batch_id)
                tasks = list(works)
                works.clear()
                for task in tasks:
                    task.cancel()

    async def _ask(self, batch_ids: Sequence[str]) -> Sequence[bool]:
        cancelled = await self._batches.cancelled(set(batch_ids))
        now = time.monotonic()
        self._answers = {key: each for key, each in self._answers.items() if each[0] > now}
        for batch_id in batch_ids:
            self._answers[batch_id] = (now + REMEMBERED_SECONDS, batch_id in cancelled)
        return [batch_id in cancelled for batch_id in batch_ids]
