"""How much of the room for delayed jobs each batch may take.

Jobs of hosts that are slow, or that ask for peace, wait in RabbitMQ. A batch may have as many jobs
under way as there is room left (Choudhury and Hahne, "Dynamic queue length thresholds for
shared-memory packet switches", 1998, with a factor of one): alone it gets half of the room, ``n``
such batches get one part of ``n + 1`` each, and one part is always left for the next that comes.
"""

import time
from collections.abc import Callable

from services.common.domain.batch import Batch
from services.fetcher.batches.counting import Counting
from services.fetcher.batches.ledger import Ledger

MOST_DELAYED = 100_000
"""Jobs that may wait for their next attempt, or for their host, all batches together."""
HELD_SECONDS = 5.0
"""So long a batch that has its share is left alone: to look at it takes counting."""


class Shares:
    """Holds back batches that have their share.

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
        """Batches that are left alone for now."""
        now = self._clock()
        self._held = {batch_id: until for batch_id, until in self._held.items() if until > now}
        return list(self._held)

    async def may_publish(self, batch: Batch, *, delayed: int) -> bool:
        """Return whether a batch may have more jobs under way; else it is ``held``.

        Args:
            batch: As it was read.
            delayed: Jobs of all batches that wait.
        """
        room = MOST_DELAYED - delayed
        if delayed <= room or await self._under_way(batch, room) < room:
            return True
        self._held[batch.id] = self._clock() + HELD_SECONDS
        return False

    async def _under_way(self, batch: Batch, most: int) -> int:
        """Count the items that are published and not done, ``most`` of them at least."""
        after, published = batch.dispatch.after, batch.pages.published
        if after is not None:  # published anew, in the order of their ids
            return await self._ledger.count_queued(batch.id, up_to=after, most=most)
        if published < most:
            return published
        counts = await self._counting.count(batch)
        return counts.queued - (batch.accepted - published)
