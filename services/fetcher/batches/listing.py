"""Shows the items of a batch in the list's order, those that nothing is written of yet too."""

from itertools import islice

from services.common.adapters.mongo import Document
from services.common.domain.batch_item import BatchItem, ItemOutcome
from services.fetcher.batches.ledger import CANCELLED, Ledger, fetch_id
from services.fetcher.batches.pages import Pages, page_id


class Listing:
    """Reads items out of ``fetches`` and ``lists``.

    Args:
        ledger: Items.
        pages: Lists.
    """

    def __init__(self, ledger: Ledger, pages: Pages) -> None:
        self._ledger = ledger
        self._pages = pages

    async def page(
        self, batch: Document, *, outcome: ItemOutcome | None, after: str, limit: int
    ) -> list[BatchItem]:
        """Return items in the list's order, from behind the id ``after``.

        Each has a ``source_url``, its URL without secrets.
        """
        # the list first: what becomes an item in between is found among the items
        waiting: dict[str, BatchItem] = {}
        if outcome in {None, _outcome_of_the_rest(batch)}:
            waiting = {item.id: item for item in await self._waiting(batch, after, limit)}
        found = self._ledger.items(batch["_id"], outcome=outcome, after=after, limit=limit)
        items = {item.id: item async for item in found}
        merged = waiting | items
        shown = [merged[each] for each in islice(sorted(merged), limit)]
        return [item.having(source_url=self._ledger.source_url(item)) for item in shown]

    async def _waiting(self, batch: Document, after: str, limit: int) -> list[BatchItem]:
        """Return the first items of the list behind an id that are not in ``fetches``."""
        batch_id, pages = batch["_id"], batch["pages"]
        counted = set(pages["counted"])
        if len(counted) == pages["count"]:
            return []
        waiting: list[BatchItem] = []
        for number, _ in await self._pages.find_from(batch_id, _line(batch_id, after)):
            if number in counted:
                continue
            items = await self._pages.read(batch_id, number)
            known = await self._ledger.ids([page_id(batch_id, number)])
            shown = [_to_item(batch, item.line, item.url, item.annotation) for item in items]
            waiting += [each for each in shown if each.id > after and each.id not in known]
            if len(waiting) >= limit:
                break
        return waiting


def _line(batch_id: str, after: str) -> int:
    number = after.removeprefix(f"{batch_id}/")
    return int(number) if number.isdecimal() else 0


def _outcome_of_the_rest(batch: Document) -> ItemOutcome:
    is_cancelled = batch["cancelled_at"] is not None
    return ItemOutcome.CANCELLED if is_cancelled else ItemOutcome.QUEUED


def _to_item(batch: Document, line: int, url: str, annotation: str | None) -> BatchItem:
    outcome = _outcome_of_the_rest(batch)
    is_cancelled = outcome is ItemOutcome.CANCELLED
    return BatchItem(
        id=fetch_id(batch["_id"], line),
        url=url,
        annotation=annotation,
        outcome=outcome,
        code=CANCELLED.code if is_cancelled else None,
        detail=CANCELLED.detail if is_cancelled else None,
    )
