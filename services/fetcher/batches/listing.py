"""List the items of a batch in the list's order, including those without document."""

from itertools import islice

from services.common.adapters.mongo import Document
from services.fetcher.batches.ledger import CANCELLED, ItemOutcome, Ledger, fetch_id
from services.fetcher.batches.pages import Pages, page_id


class Listing:
    """Reads items from ``fetches`` and ``lists``.

    Args:
        ledger: Items.
        pages: Lists.
    """

    def __init__(self, ledger: Ledger, pages: Pages) -> None:
        self._ledger = ledger
        self._pages = pages

    async def page(
        self, batch: Document, *, outcome: ItemOutcome | None, after: str, limit: int
    ) -> list[Document]:
        """Return items in the list's order, after the id ``after``.

        Each has a ``source_url``, its redacted URL.
        """
        # the list first: items created in between are found in ``fetches``
        waiting: dict[str, Document] = {}
        if outcome in {None, _outcome_of_the_rest(batch)}:
            waiting = {item["_id"]: item for item in await self._waiting(batch, after, limit)}
        found = self._ledger.items(batch["_id"], outcome=outcome, after=after, limit=limit)
        items = {item["_id"]: item async for item in found}
        merged = waiting | items
        shown = [merged[each] for each in islice(sorted(merged), limit)]
        return [{**item, "source_url": self._ledger.source_url(item)} for item in shown]

    async def _waiting(self, batch: Document, after: str, limit: int) -> list[Document]:
        """Return the next items of the list after an id that are not in ``fetches``."""
        batch_id, pages = batch["_id"], batch["pages"]
        counted = set(pages["counted"])
        if len(counted) == pages["count"]:
            return []
        waiting: list[Document] = []
        for number, _ in await self._pages.find_from(batch_id, _line(batch_id, after)):
            if number in counted:
                continue
            items = await self._pages.read(batch_id, number)
            known = await self._ledger.ids([page_id(batch_id, number)])
            shown = [_to_document(batch, item.line, item.url, item.annotation) for item in items]
            waiting += [each for each in shown if each["_id"] > after and each["_id"] not in known]
            if len(waiting) >= limit:
                break
        return waiting


def _line(batch_id: str, after: str) -> int:
    number = after.removeprefix(f"{batch_id}/")
    return int(number) if number.isdecimal() else 0


def _outcome_of_the_rest(batch: Document) -> ItemOutcome:
    is_cancelled = batch["cancelled_at"] is not None
    return ItemOutcome.CANCELLED if is_cancelled else ItemOutcome.QUEUED


def _to_document(batch: Document, line: int, url: str, annotation: str | None) -> Document:
    outcome = _outcome_of_the_rest(batch)
    is_cancelled = outcome is ItemOutcome.CANCELLED
    return {
        "_id": fetch_id(batch["_id"], line),
        "url": url,
        "annotation": annotation,
        "outcome": outcome,
        "code": CANCELLED.code if is_cancelled else None,
        "detail": CANCELLED.detail if is_cancelled else None,
        "attempts": 0,
    }
