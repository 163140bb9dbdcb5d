"""Clears what is left of lists whose sender went away before they were answered."""

import asyncio
from datetime import UTC, datetime, timedelta

import structlog

from services.common.adapters.mongo import Collection
from services.common.domain.errors import UnavailableError
from services.common.runtime.periodic import periodic

log = structlog.stdlib.get_logger(__name__)

EVERY_SECONDS = 600.0


class Clearing:
    """Deletes batches that never got their whole list, and the pages of it.

    Args:
        batches: The ``batches`` collection.
        lists: Their pages.
        kept_seconds: How long a list can still be sent again; one that is being taken is younger.
    """

    def __init__(self, batches: Collection, lists: Collection, *, kept_seconds: float) -> None:
        self._batches = batches
        self._lists = lists
        self._kept = timedelta(seconds=kept_seconds)

    async def run(self, stop: asyncio.Event) -> None:
        """Clear until ``stop`` is set."""
        await periodic(self._try_to_clear, stop, seconds=EVERY_SECONDS)

    async def _try_to_clear(self) -> None:
        try:
            await self.clear()
        except UnavailableError as error:
            log.warning("nothing cleared", error=str(error))

    async def clear(self) -> int:
        """Clear what is old enough; return how many batches."""
        count = 0
        old = {"loaded": False, "touched_at": {"$lt": datetime.now(tz=UTC) - self._kept}}
        # first of all nobody can go on with it: whoever sends the list again begins anew
        given_up = {"$set": {"is_given_up": True}, "$unset": {"idempotency_key": ""}}
        while batch := await self._batches.find_and_update(old, given_up):
            pages = await self._lists.delete_many({"batch_id": batch["_id"]})
            await self._batches.delete_many({"_id": batch["_id"], "loaded": False})
            log.info("unfinished list cleared", batch_id=batch["_id"], pages=pages)
            count += 1
        return count
