"""Detect cancelled batches without a query per item."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import structlog

from services.common.adapters.request_batcher import RequestBatcher
from services.common.domain.errors import PipelineError, UnavailableError
from services.common.runtime.periodic import periodic
from services.fetcher.batches.repository import BatchRepository

log = structlog.stdlib.get_logger(__name__)

REMEMBERED_SECONDS = 0.5
"""Polling interval: a cancelled batch stops within twice this time, in every fetcher."""


class BatchCancelledError(PipelineError):
    """The batch of a running or waiting item was cancelled."""

    code = "cancelled"


class Cancellations:
    """Polls the state of all batches with running items."""

    def __init__(self, batches: BatchRepository) -> None:
        self._batches = batches
        self._answers: dict[str, tuple[float, bool]] = {}
        self._asking = RequestBatcher(self._ask)
        self._works: dict[str, set[asyncio.Task[object]]] = {}

    async def is_cancelled(self, batch_id: str) -> bool:
        """Return whether a batch was cancelled."""
        now = time.monotonic()
        known = self._answers.get(batch_id)
        if known is not None and known[0] > now:
            return known[1]
        return await self._asking(batch_id)

    @contextmanager
    def watched(self, batch_id: str) -> Iterator[None]:
        """Interrupt the block when the batch is cancelled.

        Raises:
            BatchCancelledError: The batch was cancelled.
        """
        if (task := asyncio.current_task()) is None:
            raise RuntimeError("not in a task")
        works = self._works.setdefault(batch_id, set())
        works.add(task)
        try:
            yield
        except asyncio.CancelledError:
            # Removed by run(): its cancellation, unless the task was cancelled otherwise, too
            if task in works or task.uncancel() > 0:
                raise
            raise BatchCancelledError(batch_id) from None
        finally:
            works.discard(task)
            if not works:
                self._works.pop(batch_id, None)

    async def run(self, stop: asyncio.Event) -> None:
        """Interrupt items of cancelled batches, until ``stop`` is set."""
        await periodic(self._interrupt, stop, seconds=REMEMBERED_SECONDS)

    async def _interrupt(self) -> None:
        if not self._works:
            return
        try:
            await self._ask(list(self._works))
        except UnavailableError as error:
            log.warning("look-up of cancelled batches failed", error=str(error))
        for batch_id in list(self._works):
            if self._answers.get(batch_id, (0.0, False))[1]:
                works = self._works.pop(batch_id)
                tasks = list(works)
                works.clear()
                for task in tasks:
                    task.cancel()

    async def _ask(self, batch_ids: Sequence[str]) -> Sequence[bool]:
        cancelled = await self._batches.cancelled(set(batch_ids))
        now = time.monotonic()
        self._answers = {key: each for key, each in self._answers.items() if each[0] > now}
        for batch_id in batch_ids:
            self._answers[batch_id] = (now + REMEMBERED_SECONDS, batch_id in cancelled)
        return [batch_id in cancelled for batch_id in batch_ids]
