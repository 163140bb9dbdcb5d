"""Counts the items of batches, however many they are.

Only pages in work are counted anew: once all items of a page are done, its counts are added to
those that its batch keeps. A retry, which makes items undone, forgets what was kept.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from services.common.adapters.mongo import Collection, Document
from services.common.domain.batch_item import ItemOutcome
from services.fetcher.batches.ledger import NOTHING, Counts, Ledger
from services.fetcher.batches.pages import Pages, page_at, page_id

PAGES_AT_ONCE = 50

UNCOUNTED: Document = {
    "pages.counted": [],
    "pages.kept": dict(NOTHING.by_outcome),
    "pages.failure_codes": {},
    "pages.size_bytes": 0,
    "pages.finished_at": None,
}
"""What a batch keeps where nothing of it is counted for good."""


class Counting:
    """Counts the items of batches.

    Args:
        batches: The ``batches`` collection.
        ledger: Their items.
        pages: Their lists.
    """

    def __init__(self, batches: Collection, ledger: Ledger, pages: Pages) -> None:
        self._batches = batches
        self._ledger = ledger
        self._pages = pages

    async def count(self, batch: Document) -> Counts:
        """Count the items of a batch as its document was read; they add up to what it accepted."""
        pages = batch["pages"]
        counts = Counts(
            {outcome: pages["kept"].get(outcome, 0) for outcome in ItemOutcome},
            pages["finished_at"],
            pages["failure_codes"],
            pages["size_bytes"],
        )
        uncounted = _uncounted(pages)
        for start in range(0, len(uncounted), PAGES_AT_ONCE):
            numbers = uncounted[start : start + PAGES_AT_ONCE]
            found = await self._ledger.count([page_id(batch["_id"], each) for each in numbers])
            await self._keep(batch, dict(zip(numbers, found.values(), strict=True)))
            counts = sum(found.values(), start=counts)
        return _complete(batch, counts)

    async def _keep(self, batch: Document, found: dict[int, Counts]) -> None:
        """Add up the pages that are done, unless somebody else did, or a person retries."""
        if batch["requeue"] is not None:
            return
        begun = {number: counts for number, counts in found.items() if counts.is_done}
        sizes = await self._pages.sizes(batch["_id"], list(begun)) if begun else {}
        done = {
            number: counts
            for number, counts in begun.items()
            if sum(counts.by_outcome.values()) == sizes.get(number)
        }
        if not done:
            return
        total = sum(done.values(), start=NOTHING)
        change: dict[str, Any] = {
            "$push": {"pages.counted": {"$each": sorted(done)}},
            "$inc": {
                **{f"pages.kept.{each}": total.by_outcome[each] for each in ItemOutcome},
                **{f"pages.failure_codes.{code}": n for code, n in total.failure_codes.items()},
                "pages.size_bytes": total.size_bytes,
            },
        }
        if total.finished_at is not None:
            change["$max"] = {"pages.finished_at": total.finished_at}
        await self._batches.update_one(
            {
                "_id": batch["_id"],
                "requeue": None,
                "dispatch.version": batch["dispatch"]["version"],
                "pages.counted": {"$nin": sorted(done)},
            },
            change,
        )


def _uncounted(pages: Document) -> Sequence[int]:
    """Return the pages that are, or are being, published, but for those counted for good."""
    begun = min(pages["next"] + 1, pages["count"])
    counted = set(pages["counted"])
    numbers = (page_at(position, pages["count"]) for position in range(begun))
    return [number for number in numbers if number not in counted]


def _complete(batch: Document, counts: Counts) -> Counts:
    """Count what has no outcome yet: queued, or cancelled with its batch."""
    by_outcome = dict(counts.by_outcome)
    rest = batch["accepted"] - sum(by_outcome.values())
    is_cancelled = batch["cancelled_at"] is not None
    by_outcome[ItemOutcome.CANCELLED if is_cancelled else ItemOutcome.QUEUED] += rest
    return replace(counts, by_outcome=by_outcome)
