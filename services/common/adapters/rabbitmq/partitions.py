"""Partitions of a work queue: each has one active consumer, and processes share them evenly.

RabbitMQ gives all of a queue's messages to the consumer that subscribed first
(``x-single-active-consumer``), and to the next in line when that one goes, also when it is killed.
What is left to do here is to share: a process that is active on more partitions than is fair hands
some over. It finishes what it began of them first, so that nobody else works on the same hosts
meanwhile, gives back what it only holds, and queues up again at the end of the line.

RabbitMQ counts no waiting consumers of such a queue, so each process also subscribes to the
``members`` queue, in which there is never a message: its consumers are the processes.

See docs/decisions/0013-hosts-partitioned-by-hash.md.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
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
from services.common.adapters.rabbitmq.settlement import Queues

log = structlog.stdlib.get_logger(__name__)

SHARE_EVERY_SECONDS = 2.0
"""Between two looks whether other processes want a share."""
HAND_OVER_SECONDS = 30.0
"""Limit to finish what was begun of a partition before it is handed over unfinished."""


class Work:
    """The work of one delivery."""

    def __init__(self) -> None:
        self.has_begun = False
        self.task: asyncio.Task[None]

    def begin(self) -> None:
        """Note that it waits for its turn no more."""
        self.has_begun = True


Start = Callable[[Message], Work]


class Partition:
    """One partition, on a channel of its own.

    Args:
        name: Its queue.
        connection: Open; the caller closes it.
        start: Begins the work of a delivery.
        lost: Told why nothing will arrive any more.
        taken_over: Called before its first delivery: until then another process had its hosts.
        prefetch: Deliveries held at once.
    """

    def __init__(
        self,
        name: str,
        connection: Connection,
        *,
        start: Start,
        lost: Callable[[str], None],
        taken_over: Callable[[], None],
        prefetch: int,
    ) -> None:
        self.name = name
        self._connection = connection
        self._start = start
        self._lost = lost
        self._taken_over = taken_over
        self._prefetch = prefetch
        self._channel: Channel | None = None
        self._works: set[Work] = set()
        self.is_active = False
        """Whether this process is known to be its active consumer: it was given work."""

    @property
    def begun(self) -> int:
        """How many works have begun."""
        return sum(work.has_begun for work in self._works)

    async def subscribe(self) -> None:
        """Queue up for this partition's work."""
        channel = await open_channel(self._connection, confirms=False)
        self._channel = channel
        await channel.set_qos(prefetch_count=self._prefetch)
        channel.close_callbacks.add(lambda *_: self._on_closed(channel, "channel lost"))
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(
            lambda _: self._on_closed(channel, "queue is gone")
        )
        queue = await channel.get_queue(self.name)
        await queue.consume(partial(self._accept, channel))

    async def hand_over(self) -> None:
        """Let the next in line work on it, and queue up again."""
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
        """Begin nothing more; with ``at_once`` drop what was begun too: others may do it now.

        What is not settled comes back to its queue with the channel's end.
        """
        self._channel = None
        self.is_active = False
        for work in self._works:
            if at_once or not work.has_begun:
                work.task.cancel()

    async def _accept(self, channel: Channel, message: Message) -> None:
        if channel is not self._channel:
            return  # on its way while this process left: it goes back with the channel
        if not self.is_active:
            self.is_active = True
            self._taken_over()
        work = self._start(message)
        self._works.add(work)
        work.task.add_done_callback(lambda _: self._works.discard(work))

    def _on_closed(self, channel: Channel, why: str) -> None:
        if channel is self._channel:
            self._lost(f"{self.name}: {why}")


class Partitions:
    """All partitions of a work queue, on one connection.

    Args:
        connection: Open; the caller closes it.
        queues: Names of partitions and of the members' queue.
        start: Begins the work of a delivery.
        lost: Told why nothing will arrive any more.
        taken_over: Called before the first delivery of each partition.
        prefetch: Deliveries held at once of each partition.
    """

    def __init__(
        self,
        connection: Connection,
        queues: Queues,
        *,
        start: Start,
        lost: Callable[[str], None],
        taken_over: Callable[[], None],
        prefetch: int,
    ) -> None:
        self._connection = connection
        self._members = queues.members
        self._partitions = [
            Partition(
                name,
                connection,
                start=start,
                lost=lost,
                taken_over=taken_over,
                prefetch=prefetch,
            )
            for name in queues.partitions
        ]

    async def subscribe(self, channel: Channel) -> None:
        """Become a member and queue up for every partition's work.

        Args:
            channel: On which this process is a member.
        """
        await (await channel.get_queue(self._members)).consume(_ignore)
        await asyncio.gather(*(partition.subscribe() for partition in self._partitions))

    async def share(self, channel: Channel) -> None:
        """Hand over what is more than a fair share, for ever."""
        while True:
            await asyncio.sleep(SHARE_EVERY_SECONDS)
            members = max(1, await consumers_of(channel, self._members))
            active = [partition for partition in self._partitions if partition.is_active]
            excess = len(active) - ceil(len(self._partitions) / members)
            if excess <= 0:
                continue
            handed = sorted(active, key=lambda partition: partition.begun)[:excess]
            log.info("handing over", partitions=[each.name for each in handed], members=members)
            await asyncio.gather(*(partition.hand_over() for partition in handed))

    def leave(self, *, at_once: bool) -> None:
        """Begin nothing more of any partition; its end of the connection gives the rest back."""
        for partition in self._partitions:
            partition.leave(at_once=at_once)


async def _ignore(message: Message) -> None:
    """Take away what does not belong into the members' queue."""
    with suppress(*BROKER_ERRORS):
        await message.ack()
