"""Operations on batches: show, retry, cancel."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from services.common.domain.batch import Batch, BatchState, Counts, RetryScope, page_id
from services.common.domain.batch_item import BatchItem, ItemOutcome
from services.common.domain.errors import PermanentError
from services.fetcher.batches.dispatcher import LEASE_SECONDS
from services.fetcher.batches.item_repository import CANCELLED, ItemRepository, fetch_id
from services.fetcher.batches.pages import Counting, Expander, ListPages
from services.fetcher.batches.repository import BatchRepository


class BatchConflictError(PermanentError):
    """The operation is not possible in the batch's state."""

    code = "batch_conflict"


@dataclass(frozen=True)
class CountedBatch:
    """A batch with its counts."""

    batch: Batch
    counts: Counts

    @property
    def state(self) -> BatchState:
        """State of the batch."""
        return self.batch.state(self.counts)


class Batches:
    """Shows, retries and cancels batches."""

    def __init__(
        self,
        batches: BatchRepository,
        items: ItemRepository,
        pages: ListPages,
        *,
        counting: Counting,
        expander: Expander,
        wake: asyncio.Event,
    ) -> None:
        self._batches = batches
        self._items = items
        self._pages = pages
        self._counting = counting
        self._expander = expander
        self._wake = wake

    async def find(self, batch_id: str) -> CountedBatch:
        """Return a batch.

        Raises:
            BatchNotFoundError: It does not exist.
        """
        return await self._counted(await self._batches.get(batch_id))

    async def page(self, *, after: str | None, limit: int) -> list[CountedBatch]:
        """Return batches, newest first, after the id ``after``."""
        found = await self._batches.newest(after=after, limit=limit)
        return [await self._counted(each) for each in found]

    async def items(
        self, batch_id: str, *, outcome: ItemOutcome | None, after: str, limit: int
    ) -> list[BatchItem]:
        """Return a batch's items in the list's order, after the id ``after``.

        Each has a ``source_url``, its redacted URL; items without document are included.

        Raises:
            BatchNotFoundError: It does not exist.
        """
        batch = await self._batches.get(batch_id)
        # the list first: items created in between are found in ``fetches``
        waiting: dict[str, BatchItem] = {}
        if outcome in {None, batch.outcome_of_rest}:
            waiting = {item.id: item for item in await self._waiting(batch, after, limit)}
        found = self._items.of_batch(batch_id, outcome=outcome, after=after, limit=limit)
        merged = waiting | {item.id: item async for item in found}
        shown = [merged[each] for each in islice(sorted(merged), limit)]
        return [item.having(source_url=self._items.source_url(item)) for item in shown]

    async def failed(self, batch_id: str) -> AsyncIterator[BatchItem]:
        """Return all failed items of a batch, in the list's order.

        Raises:
            BatchNotFoundError: It does not exist.
        """
        await self._batches.get(batch_id)
        return self._items.of_batch(batch_id, outcome=ItemOutcome.FAILED)

    async def retry(self, batch_id: str, scope: RetryScope) -> int:
        """Requeue failed items and possibly lost jobs; return their number.

        Raises:
            BatchNotFoundError: It does not exist.
            BatchConflictError: It was cancelled.
        """
        batch = await self._batches.get(batch_id)
        if batch.cancelled_at is not None:
            raise BatchConflictError("the batch was cancelled: submit its list again")
        # the intention first: the dispatcher executes it if this process dies here, but only after
        # the lease, as only one process may requeue and count
        await self._batches.ask_for_retry(batch_id, scope, ours=timedelta(seconds=LEASE_SECONDS))
        requeued = await self._expander.requeue(batch, scope)
        await self._batches.note_retry(batch_id)
        self._wake.set()
        return requeued

    async def cancel(self, batch_id: str) -> None:
        """Cancel queued items (idempotent).

        Raises:
            BatchNotFoundError: It does not exist.
            BatchConflictError: It is completed.
        """
        if (await self.find(batch_id)).state is BatchState.COMPLETED:
            raise BatchConflictError("the batch is completed")
        await self._batches.cancel(batch_id)
        self._wake.set()
        await self._items.cancel(batch_id)

    async def _counted(self, batch: Batch) -> CountedBatch:
        return CountedBatch(batch, await self._counting.count(batch))

    async def _waiting(self, batch: Batch, after: str, limit: int) -> list[BatchItem]:
        """Return the next items of the list after an id that are not in ``fetches``."""
        counted = set(batch.pages.counted)
        if len(counted) == batch.pages.count:
            return []
        waiting: list[BatchItem] = []
        for number, _ in await self._pages.find_from(batch.id, _line(batch.id, after)):
            if number in counted:
                continue
            items = await self._pages.read(batch.id, number)
            known = await self._items.ids([page_id(batch.id, number)])
            shown = [_to_item(batch, item.line, item.url, item.annotation) for item in items]
            waiting += [each for each in shown if each.id > after and each.id not in known]
            if len(waiting) >= limit:
                break
        return waiting


def _line(batch_id: str, after: str) -> int:
    number = after.removeprefix(f"{batch_id}/")
    return int(number) if number.isdecimal() else 0


def _to_item(batch: Batch, line: int, url: str, annotation: str | None) -> BatchItem:
    """Return an item without document."""
    item = BatchItem(
        id=fetch_id(batch.id, line), url=url, annotation=annotation, outcome=batch.outcome_of_rest
    )
    return item if item.is_queued else item.having(code=CANCELLED.code, detail=CANCELLED.detail)
