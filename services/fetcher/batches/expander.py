"""Turns the pages of a list into jobs, a page at a time, just ahead of their download."""

from collections.abc import AsyncIterator

from services.common.adapters.mongo import Document
from services.fetcher.batches.counting import PAGES_AT_ONCE
from services.fetcher.batches.ledger import Ledger, fetch_id
from services.fetcher.batches.pages import Pages, mixed_by_host, number_of, page_at, page_id
from services.fetcher.jobs import Job, job_of


class Expander:
    """Makes jobs of the pages of ``lists``.

    Args:
        pages: Where they come from.
    """

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def expand_page(self, batch: Document) -> list[Job]:
        """Return the jobs of the next page, mixed by host.

        Again and again the same, until ``pages.next`` of the batch is one further.
        """
        pages = batch["pages"]
        return await self._jobs(batch, page_at(pages["next"], pages["count"]))

    async def untouched(self, batch: Document, ledger: Ledger) -> AsyncIterator[list[Job]]:
        """Yield the jobs of items that were published and have no document, a page at a time."""
        batch_id, pages = batch["_id"], batch["pages"]
        published = {page_at(position, pages["count"]) for position in range(pages["next"])}
        numbers = sorted(published.difference(pages["counted"]))
        for start in range(0, len(numbers), PAGES_AT_ONCE):
            some = numbers[start : start + PAGES_AT_ONCE]
            sizes = await self._pages.sizes(batch_id, some)
            found = await ledger.count([page_id(batch_id, each) for each in some])
            for identity, counts in found.items():
                number = number_of(identity)
                if sum(counts.by_outcome.values()) < sizes.get(number, 0):
                    known = await ledger.ids([identity])
                    jobs = await self._jobs(batch, number)
                    yield [job for job in jobs if job.fetch_id not in known]

    async def _jobs(self, batch: Document, number: int) -> list[Job]:
        items = await self._pages.read(batch["_id"], number)
        return [
            job_of(batch, fetch_id(batch["_id"], item.line), item, number)
            for item in mixed_by_host(items)
        ]
