"""Publish the items of batches as jobs: a transactional outbox.

The batch's document holds the position. It is written after the broker's confirmation, so a crash
in between publishes some items twice, which their worker detects, but never omits one. Several
fetchers share the work by short leases; an expired lease does no harm.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto

import structlog
from tenacity import retry_if_exception_type

from services.common.adapters.rabbitmq.messaging import Publisher, open_publisher
from services.common.adapters.rabbitmq.retry_policy import Queues
from services.common.domain.batch import Batch, number_of
from services.common.domain.batch_item import ItemOutcome
from services.common.domain.errors import UnavailableError
from services.common.runtime.periodic import first_of, pause, retry_for_ever
from services.common.runtime.settings import AmqpSettings
from services.fetcher.batches.item_repository import ItemRepository, row_of
from services.fetcher.batches.pages import Counting, Expander
from services.fetcher.batches.repository import BatchRepository
from services.fetcher.jobs import FetchJob, job_of

log = structlog.stdlib.get_logger(__name__)

PAGE_ITEMS = 500
"""Items published before the position is written and the next batch is served."""
MOST_WAITING = 5_000
"""Limit of queued jobs of all batches."""
LEASE_SECONDS = 10.0
POLL_SECONDS = 1.0
LARGEST_PAUSE_SECONDS = 5.0
MOST_DELAYED = 100_000
"""Limit of delayed jobs of all batches."""
THROTTLED_SECONDS = 5.0
"""Time before a throttled batch is checked again, which needs counting."""


class DispatchResult(Enum):
    """Result of one call of ``dispatch_page``."""

    SERVED = auto()
    """A batch was served: a page of it published, its items requeued or cancelled."""
    THROTTLED = auto()
    """The batch has its share of the delayed jobs; another one may not."""
    FULL = auto()
    """The queues are full."""
    IDLE = auto()
    """There is no batch to serve."""


class FairShare:
    """Throttles batches that use their share of the delayed jobs.

    Jobs of slow or throttled hosts wait in RabbitMQ. The limit of a batch is the free capacity
    (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998,
    with a factor of one): a single batch gets half of the capacity, ``n`` such batches get one of
    ``n + 1`` parts each, and one part is always free for the next batch.
    """

    def __init__(
        self, counting: Counting, items: ItemRepository, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._counting = counting
        self._items = items
        self._clock = clock
        self._throttled: dict[str, float] = {}

    @property
    def throttled(self) -> list[str]:
        """Currently throttled batches."""
        now = self._clock()
        self._throttled = {each: until for each, until in self._throttled.items() if until > now}
        return list(self._throttled)

    async def admits(self, batch: Batch, *, delayed: int) -> bool:
        """Return whether a batch may publish more jobs; otherwise it is ``throttled``."""
        room = MOST_DELAYED - delayed
        if delayed <= room or await self._under_way(batch, room) < room:
            return True
        self._throttled[batch.id] = self._clock() + THROTTLED_SECONDS
        return False

    async def _under_way(self, batch: Batch, most: int) -> int:
        """Count published unfinished items, up to at least ``most``."""
        after, published = batch.dispatch.after, batch.pages.published
        if after is not None:  # being redispatched, in the order of their ids
            return await self._items.count_queued(batch.id, up_to=after, most=most)
        if published < most:
            return published
        counts = await self._counting.count(batch)
        return counts.queued - (batch.accepted - published)


class Dispatcher:
    """Publishes the items of batches.

    Args:
        settings: Address of RabbitMQ.
        queues: Of jobs.
        batches: The batches.
        items: Repository of items.
        expander: Creates jobs from lists.
        fair_share: Limits delayed jobs per batch.
        wake: Set when there is new work; polled every ``POLL_SECONDS`` anyway.
    """

    def __init__(
        self,
        settings: AmqpSettings,
        queues: Queues,
        *,
        batches: BatchRepository,
        items: ItemRepository,
        expander: Expander,
        fair_share: FairShare,
        wake: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._queues = queues
        self._batches = batches
        self._items = items
        self._expander = expander
        self._fair_share = fair_share
        self._wake = wake
        self._owner = secrets.token_hex(8)

    async def run(self, stop: asyncio.Event) -> None:
        """Dispatch until ``stop`` is set, reconnecting as needed; a started page is finished."""
        retries = retry_for_ever(
            stop,
            first=0.2,
            longest=LARGEST_PAUSE_SECONDS,
            retry=retry_if_exception_type(UnavailableError),
            before_sleep=lambda state: log.warning(
                "dispatching paused", error=str(state.outcome and state.outcome.exception())
            ),
        )
        while not stop.is_set():
            async for attempt in retries:
                with attempt:
                    await self._dispatch_on_one_connection(stop)

    async def _dispatch_on_one_connection(self, stop: asyncio.Event) -> None:
        if stop.is_set():
            return
        async with open_publisher(self._settings) as publisher:
            while not stop.is_set():
                self._wake.clear()
                result = await self.dispatch_page(publisher)
                if result in {DispatchResult.FULL, DispatchResult.IDLE}:
                    await first_of(self._wake.wait(), pause(stop, POLL_SECONDS))

    async def _depth(self, publisher: Publisher, queues: Sequence[str]) -> int:
        return sum(await asyncio.gather(*(publisher.depth(each) for each in queues)))

    async def dispatch_page(self, publisher: Publisher) -> DispatchResult:
        """Serve one batch: publish one page of it, or carry out its retry or cancellation.

        Raises:
            UnavailableError: MongoDB or RabbitMQ does not answer; the page is published again.
        """
        delayed = await self._depth(publisher, self._queues.delays)
        if (
            delayed >= MOST_DELAYED
            or await self._depth(publisher, self._queues.consumed) >= MOST_WAITING
        ):
            return DispatchResult.FULL
        batch = await self._lease()
        if batch is None:
            return DispatchResult.IDLE
        result = DispatchResult.SERVED
        if batch.cancelled_at is not None:
            await self._items.cancel(batch.id)
            batch = batch.dispatched()
        elif batch.requeue is not None:
            await self._expander.requeue(batch, batch.requeue)
            batch = batch.requeued()
        elif not await self._fair_share.admits(batch, delayed=delayed):
            result = DispatchResult.THROTTLED
        elif batch.dispatch.after is not None:
            batch = await self._dispatch_again(batch, publisher)
        else:
            batch = await self._dispatch_new(batch, publisher)
        await self._batches.release(batch)
        return result

    async def _dispatch_new(self, batch: Batch, publisher: Publisher) -> Batch:
        """Publish the items of the list's next page; return the new state of the batch."""
        jobs = await self._expander.expand_page(batch)
        await self._publish(jobs, publisher)
        batch = batch.page_published(len(jobs))
        await self._batches.note_published(batch)
        done = batch.dispatch.done
        log.info("page dispatched", batch_id=batch.id, pages=batch.pages.next, done=done)
        return batch

    async def _dispatch_again(self, batch: Batch, publisher: Publisher) -> Batch:
        """Publish requeued items, a page at a time; the rest of the list follows."""
        found = self._items.of_batch(
            batch.id,
            outcome=ItemOutcome.QUEUED,
            after=batch.dispatch.after or "",
            limit=PAGE_ITEMS,
        )
        jobs = [job_of(batch, item.id, row_of(item), number_of(item.page)) async for item in found]
        await self._publish(jobs, publisher)
        batch = batch.published_again(jobs[-1].fetch_id if len(jobs) == PAGE_ITEMS else None)
        done = batch.dispatch.done
        log.info("items redispatched", batch_id=batch.id, items=len(jobs), done=done)
        return batch

    async def _publish(self, jobs: Sequence[FetchJob], publisher: Publisher) -> None:
        queues = self._queues
        await asyncio.gather(
            *(
                publisher.publish(
                    job.body(),
                    queue=queues.work,
                    headers=job.headers(),
                    exchange=queues.exchange,
                )
                for job in jobs
            )
        )

    async def _lease(self) -> Batch | None:
        throttled = self._fair_share.throttled
        return await self._batches.lease(self._owner, seconds=LEASE_SECONDS, but=throttled)
