"""Partitions of a work queue: each has one active consumer, and processes share them evenly.

RabbitMQ delivers all messages of a queue to its single active consumer, the first to subscribe
(``x-single-active-consumer``), and fails over to the next one. This module balances: a process that
is active on more than its fair share of partitions hands some over. It first finishes the work that
it began, so that no other process works on the same hosts meanwhile, returns unstarted deliveries,
and subscribes again as the last in line.

RabbitMQ does not count inactive consumers, so each process also subscribes to the always empty
``members`` queue, whose consumers are the processes.

See docs/decisions/0013-hosts-partitioned-by-hash.md.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import ceil

import structlog

from services.common.adapters.rabbitmq.messaging import (
    BROKER_ERRORS,
    Channel,
    Connection,
    Message,
    consumers_of,
    open_channel,
)
from services.common.adapters.rabbitmq.retry_policy import Queues

log = structlog.stdlib.get_logger(__name__)

SHARE_EVERY_SECONDS = 2.0
"""Interval of balancing."""
HAND_OVER_SECONDS = 30.0
"""Timeout to finish begun work before a partition is handed over."""


class Work:
    """The work of one delivery."""

    def __init__(self) -> None:
        self.has_begun = False
        self.task: asyncio.Task[None]

    def begin(self) -> None:
        """Mark the work as begun: it no longer waits for a slot."""
        self.has_begun = True


@dataclass(frozen=True)
class Feed:
    """Handlers and prefetch of a partition's deliveries."""

    start: Callable[[Message], Work]
    """Starts processing a delivery."""
    lost: Callable[[str], None]
    """Called with the reason when a subscription ends."""
    taken_over: Callable[[], None]
    """Called before the first delivery: until then another process had the hosts."""
    prefetch: int
    """Unsettled deliveries of each partition."""


class Partition:
    """One partition, on its own channel.

    Args:
        name: Its queue.
        connection: Open; the caller closes it.
        feed: Handlers of its deliveries.
    """

    def __init__(self, name: str, connection: Connection, feed: Feed) -> None:
        self.name = name
        self._connection = connection
        self._feed = feed
        self._channel: Channel | None = None
        self._works: set[Work] = set()
        self.is_active = False
        """Whether this process is its active consumer, known from a delivery."""

    @property
    def begun(self) -> int:
        """Number of deliveries whose work has begun."""
        return sum(work.has_begun for work in self._works)

    async def subscribe(self) -> None:
        """Subscribe to this partition."""
        channel = await open_channel(self._connection, confirms=False)
        self._channel = channel
        await channel.set_qos(prefetch_count=self._feed.prefetch)
        channel.close_callbacks.add(lambda *_: self._on_closed(channel, "channel lost"))
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(
            lambda _: self._on_closed(channel, "queue is gone")
        )
        queue = await channel.get_queue(self.name)
        await queue.consume(partial(self._accept, channel))

    async def hand_over(self) -> None:
        """Hand it over to the next consumer, and subscribe again."""
        channel = self._channel
        self.leave()
        if left := [work.task for work in self._works]:
            _, unfinished = await asyncio.wait(left, timeout=HAND_OVER_SECONDS)
            for task in unfinished:
                task.cancel()
        if channel is not None:
            await channel.close()
        await self.subscribe()

    def leave(self, *, at_once: bool = False) -> None:
        """Stop consuming; with ``at_once`` cancel begun work, too.

        Unsettled deliveries return to the queue when the channel closes.
        """
        self._channel = None
        self.is_active = False
        for work in self._works:
            if at_once or not work.has_begun:
                work.task.cancel()

    async def _accept(self, channel: Channel, message: Message) -> None:
        if channel is not self._channel:
            return  # was in transit during the handover: it returns with the channel
        if not self.is_active:
            self.is_active = True
            self._feed.taken_over()
        work = self._feed.start(message)
        self._works.add(work)
        work.task.add_done_callback(lambda _: self._works.discard(work))

    def _on_closed(self, channel: Channel, why: str) -> None:
        if channel is self._channel:
            self._feed.lost(f"{self.name}: {why}")


class Partitions:
    """All partitions of a work queue, on one connection.

    Args:
        connection: Open; the caller closes it.
        queues: Names of partitions and of the members' queue.
        feed: What becomes of their deliveries.
    """

    def __init__(self, connection: Connection, queues: Queues, feed: Feed) -> None:
        self._connection = connection
        self._members = queues.members
        self._partitions = [Partition(name, connection, feed) for name in queues.partitions]

    async def subscribe(self, channel: Channel) -> None:
        """Become a member and subscribe to every partition."""
        await (await channel.get_queue(self._members)).consume(_ignore)
        await asyncio.gather(*(partition.subscribe() for partition in self._partitions))

    async def share(self, channel: Channel) -> None:
        """Balance forever: hand over partitions beyond the fair share."""
        while True:
            await asyncio.sleep(SHARE_EVERY_SECONDS)
            members = max(1, await consumers_of(channel, self._members))
            active = [partition for partition in self._partitions if partition.is_active]
            excess = len(active) - ceil(len(self._partitions) / members)
            if excess <= 0:
                continue
            handed = sorted(active, key=lambda partition: partition.begun)[:excess]
            log.info(
                "handing over partition", partitions=[each.name for each in handed], members=members
            )
            await asyncio.gather(*(partition.hand_over() for partition in handed))

    def leave(self, *, at_once: bool) -> None:
        """Stop consuming all partitions; closing the connection returns the rest."""
        for partition in self._partitions:
            partition.leave(at_once=at_once)


async def _ignore(message: Message) -> None:
    """Discard a stray message of the members' queue."""
    with suppress(*BROKER_ERRORS):
        await message.ack()
