"""Fair share of delayed jobs per batch.

Jobs of slow or throttled hosts wait in RabbitMQ. The limit of a batch is the free capacity
(Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998,
with a factor of one): a single batch gets half of the capacity, ``n`` such batches get one of
``n + 1`` parts each, and one part is always free for the next batch.
"""

import time
from collections.abc import Callable

from services.common.domain.batch import Batch
from services.fetcher.batches.counting import Counting
from services.fetcher.batches.ledger import Ledger

MOST_DELAYED = 100_000
"""Limit of delayed jobs of all batches."""
HELD_SECONDS = 5.0
"""Time before a throttled batch is checked again, which needs counting."""


class Shares:
    """Throttles batches that use their share.

    Args:
        counting: Of the batches' items.
        ledger: The items.
        clock: Seconds, for tests.
    """

    def __init__(
        self, counting: Counting, ledger: Ledger, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._counting = counting
        self._ledger = ledger
        self._clock = clock
        self._held: dict[str, float] = {}

    @property
    def held(self) -> list[str]:
        """Currently throttled batches."""
        now = self._clock()
        self._held = {batch_id: until for batch_id, until in self._held.items() if until > now}
        return list(self._held)

    async def may_publish(self, batch: Batch, *, delayed: int) -> bool:
        """Return whether a batch may publish more jobs; otherwise it is ``held``.

        Args:
            batch: As it was read.
            delayed: Number of delayed jobs of all batches.
        """
        room = MOST_DELAYED - delayed
        if delayed <= room or await self._under_way(batch, room) < room:
            return True
        self._held[batch.id] = self._clock() + HELD_SECONDS
        return False

    async def _under_way(self, batch: Batch, most: int) -> int:
        """Count published unfinished items, up to at least ``most``."""
        after, published = batch.dispatch.after, batch.pages.published
        if after is not None:  # being redispatched, in the order of their ids
            return await self._ledger.count_queued(batch.id, up_to=after, most=most)
        if published < most:
            return published
        counts = await self._counting.count(batch)
        return counts.queued - (batch.accepted - published)
