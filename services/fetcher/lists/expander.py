"""Turns the pages of a list into items, a page at a time, just ahead of their download."""

from services.common.index import Document
from services.fetcher.jobs import Job
from services.fetcher.ledger import Ledger, fetch_id
from services.fetcher.lists.pages import Pages, mixed_by_host, page_at

AHEAD_ITEMS = 10_000
"""Items of a batch that may wait: RabbitMQ and ``fetches`` grow no further than that ahead."""


class Expander:
    """Writes items of ``fetches`` out of the pages of ``lists``.

    Args:
        pages: Where they come from.
        ledger: Where they go.
    """

    def __init__(self, pages: Pages, ledger: Ledger) -> None:
        self._pages = pages
        self._ledger = ledger

    async def has_room(self, batch_id: str) -> bool:
        """Return whether so few items of a batch wait that another page is wanted."""
        return await self._ledger.count_queued(batch_id, most=AHEAD_ITEMS) < AHEAD_ITEMS

    async def expand_page(self, batch: Document) -> list[Job]:
        """Write the next page's items down as queued; return their jobs, mixed by host.

        Again and again it does the same, until ``pages.next`` of the batch is one further.
        """
        batch_id, pages = batch["_id"], batch["pages"]
        number = page_at(pages["next"], pages["count"])
        items = await self._pages.read(batch_id, number)
        await self._ledger.add(batch_id, items, page=number)
        return [
            Job(fetch_id(batch_id, item.line), batch_id, item.url, item.annotation)
            for item in mixed_by_host(items)
        ]
