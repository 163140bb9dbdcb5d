"""The pages of lists: their repository, the count of their items, and the jobs of these.

The ``lists`` collection holds submitted rows. A document for each of a million items takes minutes
to insert; a page of a thousand rows, compressed, is one document. Pages are immutable: the batch
holds the number of dispatched pages, in the order of ``Batch.page_at``.

See docs/decisions/0012-lists-stored-as-pages.md.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, zip_longest

import structlog

from services.common.adapters.mongo import Collection, Document
from services.common.domain.batch import (
    Batch,
    Counts,
    RetryScope,
    number_of,
    pack_rows,
    page_id,
    unpack_rows,
)
from services.common.domain.errors import UnavailableError
from services.common.domain.pieces import in_pieces
from services.common.download.urls import host_of
from services.common.runtime.periodic import periodic
from services.fetcher.batches.item_repository import ItemRepository, fetch_id
from services.fetcher.batches.repository import BatchRepository
from services.fetcher.jobs import FetchJob, job_of
from services.fetcher.sources.lists.rows import ListItem

PAGE_ROWS = 1000
"""Items per page; must be stable for repeated submissions."""
PAGE_CHARACTERS = 1024 * 1024
"""Size limit of a page in characters, below MongoDB's limit of 16 MB."""

log = structlog.stdlib.get_logger(__name__)

EVERY_SECONDS = 600.0
PAGES_AT_ONCE = 50


@dataclass(frozen=True)
class ListPage:
    """A page of a list."""

    number: int
    """From 0, in the list's order."""
    first_line: int
    last_line: int
    items: int
    packed: bytes


def to_page(number: int, items: Sequence[ListItem]) -> ListPage:
    """Encode the items of a page, sorted by line."""
    packed = pack_rows(item.packed for item in items)
    return ListPage(number, items[0].line, items[-1].line, len(items), packed)


def unpack(packed: bytes) -> list[ListItem]:
    """Return the items of a page."""
    return [ListItem.unpacked(row) for row in unpack_rows(packed)]


def cut(items: Iterable[ListItem]) -> Iterator[list[ListItem]]:
    """Split a list into pages (deterministic)."""
    return in_pieces(items, PAGE_ROWS, length=lambda item: item.length, most_length=PAGE_CHARACTERS)


def mixed_by_host(items: Iterable[ListItem]) -> list[ListItem]:
    """Interleave items by host, so that a slow host does not delay others."""
    by_host: dict[str, list[ListItem]] = {}
    for item in items:
        by_host.setdefault(host_of(item.url), []).append(item)
    turns = chain.from_iterable(zip_longest(*by_host.values()))
    return [item for item in turns if item is not None]


class ListPages:
    """Reads and writes pages."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    async def add(self, batch_id: str, page: ListPage) -> None:
        """Insert a page, unless it exists."""
        document: Document = {
            "_id": page_id(batch_id, page.number),
            "batch_id": batch_id,
            "number": page.number,
            "first_line": page.first_line,
            "last_line": page.last_line,
            "items": page.items,
            "rows": page.packed,
        }
        await self._collection.insert_missing([document])

    async def clear(self, batch_id: str) -> int:
        """Delete all pages of a batch; return their number."""
        return await self._collection.delete_many({"batch_id": batch_id})

    async def read(self, batch_id: str, number: int) -> list[ListItem]:
        """Return the items of a page, in the list's order."""
        document = await self._collection.find_one({"_id": page_id(batch_id, number)})
        return unpack(document["rows"]) if document else []

    async def sizes(self, batch_id: str, numbers: Sequence[int]) -> dict[int, int]:
        """Return the number of items of pages."""
        where = {"_id": {"$in": [page_id(batch_id, number) for number in numbers]}}
        found = self._collection.find(where, fields={"number": 1, "items": 1})
        return {page["number"]: page["items"] async for page in found}

    async def find_from(self, batch_id: str, line: int) -> list[tuple[int, int]]:
        """Return number and size of the pages with lines after ``line``, in order."""
        where = {"batch_id": batch_id, "last_line": {"$gt": line}}
        fields = {"number": 1, "items": 1}
        found = self._collection.find(where, sort=[("last_line", 1)], fields=fields)
        return [(page["number"], page["items"]) async for page in found]


class Clearing:
    """Deletes batches with an incomplete list, and its pages."""

    def __init__(self, batches: BatchRepository, pages: ListPages, *, kept_seconds: float) -> None:
        self._batches = batches
        self._pages = pages
        self._kept = timedelta(seconds=kept_seconds)

    async def run(self, stop: asyncio.Event) -> None:
        """Delete periodically until ``stop`` is set."""
        await periodic(self._try_to_clear, stop, seconds=EVERY_SECONDS)

    async def _try_to_clear(self) -> None:
        try:
            await self.clear()
        except UnavailableError as error:
            log.warning("cleanup of incomplete lists failed", error=str(error))

    async def clear(self) -> int:
        """Delete expired submissions; return the number of batches."""
        count = 0
        unused_since = datetime.now(tz=UTC) - self._kept
        # first make it impossible to resume: a repeated submission starts again
        while batch := await self._batches.give_up(unused_since=unused_since):
            pages = await self._pages.clear(batch.id)
            await self._batches.delete_unfinished(batch.id)
            log.info("incomplete list deleted", batch_id=batch.id, pages=pages)
            count += 1
        return count


class Counting:
    """Counts the items of batches.

    Only unfinished pages are counted by a query: when all items of a page are done, its counts are
    added to totals in the batch. A retry resets the totals.
    """

    def __init__(self, batches: BatchRepository, items: ItemRepository, pages: ListPages) -> None:
        self._batches = batches
        self._items = items
        self._pages = pages

    async def count(self, batch: Batch) -> Counts:
        """Count the items of a batch; the sum is the number of accepted items."""
        counts = batch.pages.counts
        # including the page that is being published
        uncounted = batch.uncounted_pages(batch.pages.next + 1)
        for numbers in in_pieces(uncounted, PAGES_AT_ONCE):
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

    def __init__(self, pages: ListPages, items: ItemRepository) -> None:
        self._pages = pages
        self._items = items

    async def expand_page(self, batch: Batch) -> list[FetchJob]:
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

    async def _untouched(self, batch: Batch) -> AsyncIterator[list[FetchJob]]:
        """Yield the jobs of published items without document, a page at a time."""
        numbers = sorted(batch.uncounted_pages(batch.pages.next))
        for some in in_pieces(numbers, PAGES_AT_ONCE):
            sizes = await self._pages.sizes(batch.id, some)
            found = await self._items.count([page_id(batch.id, each) for each in some])
            for identity, counts in found.items():
                number = number_of(identity)
                if counts.total < sizes.get(number, 0):
                    known = await self._items.ids([identity])
                    jobs = await self._jobs(batch, number)
                    yield [job for job in jobs if job.fetch_id not in known]

    async def _jobs(self, batch: Batch, number: int) -> list[FetchJob]:
        items = await self._pages.read(batch.id, number)
        return [
            job_of(batch, fetch_id(batch.id, item.line), item, number)
            for item in mixed_by_host(items)
        ]
