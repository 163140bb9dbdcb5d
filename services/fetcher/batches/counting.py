"""Count the items of batches of any size.

Only unfinished pages are counted by a query: when all items of a page are done, its counts are
added to totals in the batch. A retry resets the totals.
"""

from services.common.domain.batch import Batch, Counts
from services.fetcher.batches.item_repository import ItemRepository
from services.fetcher.batches.pages import Pages, page_id
from services.fetcher.batches.repository import BatchRepository

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
