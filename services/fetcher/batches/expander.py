"""Walk through the pages of a list: count their items, and convert them into jobs.

Only unfinished pages are counted by a query: when all items of a page are done, its counts are
added to totals in the batch. A retry resets the totals.
"""

from collections.abc import AsyncIterator

from services.common.domain.batch import Batch, Counts, RetryScope
from services.fetcher.batches.item_repository import ItemRepository, fetch_id
from services.fetcher.batches.pages import Pages, mixed_by_host, number_of, page_id
from services.fetcher.batches.repository import BatchRepository
from services.fetcher.jobs import Job, job_of

PAGES_AT_ONCE = 50


class Counting:
    """Counts the items of batches."""

    def __init__(self, batches: BatchRepository, items: ItemRepository, pages: Pages) -> None:
        self._batches = batches
        self._items = items
        self._pages = pages

    async def count(self, batch: Batch) -> Counts:
        """Count the items of a batch; the sum is the number of accepted items."""
        counts = batch.pages.counts
        # including the page that is being published
        uncounted = batch.uncounted_pages(batch.pages.next + 1)
        for start in range(0, len(uncounted), PAGES_AT_ONCE):
            numbers = uncounted[start : start + PAGES_AT_ONCE]
            found = await self._items.count([page_id(batch.id, each) for each in numbers])
            await self._keep(batch, dict(zip(numbers, found.values(), strict=True)))
            counts = sum(found.values(), start=counts)
        return batch.completed(counts)

    async def _keep(self, batch: Batch, found: dict[int, Counts]) -> None:
        """Add finished pages to the totals, unless a retry is running."""
        begun = [number for number, counts in found.items() if counts.is_done]
        if batch.requeue is not None or not begun:
            return
        sizes = await self._pages.sizes(batch.id, begun)
        done = {each: found[each] for each in begun if found[each].total == sizes.get(each)}
        if done:
            await self._batches.keep_counts(batch, done)


class Expander:
    """Creates jobs from the pages of ``lists``."""

    def __init__(self, pages: Pages, items: ItemRepository) -> None:
        self._pages = pages
        self._items = items

    async def expand_page(self, batch: Batch) -> list[Job]:
        """Return the jobs of the next page, mixed by host; empty if all are published.

        The same page until ``pages.next`` of the batch is incremented.
        """
        following = batch.pages.next
        if following >= batch.pages.count:
            return []
        return await self._jobs(batch, batch.page_at(following))

    async def requeue(self, batch: Batch, scope: RetryScope) -> int:
        """Requeue items of a batch for the dispatcher; return their number.

        Published items without document are included, as their jobs may be lost. Duplicates are
        detected by the worker.
        """
        requeued = await self._items.requeue(batch.id, scope)
        async for jobs in self._untouched(batch):
            requeued += await self._items.queue(jobs)
        return requeued

    async def _untouched(self, batch: Batch) -> AsyncIterator[list[Job]]:
        """Yield the jobs of published items without document, a page at a time."""
        numbers = sorted(batch.uncounted_pages(batch.pages.next))
        for start in range(0, len(numbers), PAGES_AT_ONCE):
            some = numbers[start : start + PAGES_AT_ONCE]
            sizes = await self._pages.sizes(batch.id, some)
            found = await self._items.count([page_id(batch.id, each) for each in some])
            for identity, counts in found.items():
                number = number_of(identity)
                if counts.total < sizes.get(number, 0):
                    known = await self._items.ids([identity])
                    jobs = await self._jobs(batch, number)
                    yield [job for job in jobs if job.fetch_id not in known]

    async def _jobs(self, batch: Batch, number: int) -> list[Job]:
        items = await self._pages.read(batch.id, number)
        return [
            job_of(batch, fetch_id(batch.id, item.line), item, number)
            for item in mixed_by_host(items)
        ]
