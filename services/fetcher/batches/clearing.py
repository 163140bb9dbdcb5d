"""Delete incomplete submissions of lists."""

import asyncio
from datetime import UTC, datetime, timedelta

import structlog

from services.common.domain.errors import UnavailableError
from services.common.runtime.periodic import periodic
from services.fetcher.batches.pages import Pages
from services.fetcher.batches.repository import BatchRepository

log = structlog.stdlib.get_logger(__name__)

EVERY_SECONDS = 600.0


class Clearing:
    """Deletes batches with an incomplete list, and its pages."""

    def __init__(self, batches: BatchRepository, pages: Pages, *, kept_seconds: float) -> None:
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
        # first make it impossible to resume: a repeated submission starts anew
        while batch := await self._batches.give_up(unused_since=unused_since):
            pages = await self._pages.clear(batch.id)
            await self._batches.delete_unfinished(batch.id)
            log.info("incomplete list deleted", batch_id=batch.id, pages=pages)
            count += 1
        return count
