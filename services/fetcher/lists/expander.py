"""Turns the pages of a list into jobs, a page at a time, just ahead of their download."""

from services.common.index import Document
from services.fetcher.jobs import Job
from services.fetcher.ledger import fetch_id
from services.fetcher.lists.pages import Pages, mixed_by_host, page_at


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
        batch_id, pages = batch["_id"], batch["pages"]
        number = page_at(pages["next"], pages["count"])
        items = await self._pages.read(batch_id, number)
        return [
            Job(fetch_id(batch_id, item.line), batch_id, item.url, item.annotation, number)
            for item in mixed_by_host(items)
        ]
