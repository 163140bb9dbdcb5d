"""Takes the deliveries of a work queue, or of its partitions, and settles each exactly once."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import structlog

from services.common.adapters.rabbitmq.messaging import (
    BROKER_ERRORS,
    CONNECT_TIMEOUT_SECONDS,
    Channel,
    Connection,
    Message,
    Publisher,
    Queue,
    broker_errors,
    connect,
    depth_of,
    open_channel,
)
from services.common.adapters.rabbitmq.partitions import Partitions, Work
from services.common.adapters.rabbitmq.session import Session
from services.common.adapters.rabbitmq.settlement import (
    Delivery,
    Handler,
    Outcome,
    Queues,
    Verdict,
    is_worn_out,
    judge,
    postpone,
    renewed,
    returned,
    to_delivery,
)
from services.common.domain.errors import BrokerUnavailableError, PostponedError, UnavailableError
from services.common.runtime.dependency_gate import Breaker, Check
from services.common.runtime.settings import AmqpSettings

log = structlog.stdlib.get_logger(__name__)

CANCEL_AGAIN_SECONDS = 1.0
IDLE_POLL_SECONDS = 0.25
"""Between two looks whether there is time for work that can wait."""
Settled = Callable[[Outcome, str], None]
"""Told once a delivery: its outcome and code."""
StopFeed = Callable[[], Coroutine[Any, Any, None]]


class Consumer:
    """Hands the deliveries of one work queue to a handler and settles each exactly once.

    Args:
        settings: Address of RabbitMQ.
        queues: The work queue and where failures go.
        handle: Does the work of one delivery; as many run at once as are held.
        prefetch: Deliveries held at once, of each partition where there are partitions.
        checks: By name of a dependency: returns when it answers again, raises while it does not.
        on_settled: Told the outcome of each delivery.
        on_takeover: Called before the first delivery of a partition that another process had.
        behind: Whose work goes first: a delivery is taken only while it has nothing to do.
    """

    def __init__(
        self,
        settings: AmqpSettings,
        queues: Queues,
        handle: Handler,
        *,
        prefetch: int,
        checks: Mapping[str, Check],
        on_settled: Settled,
        on_takeover: Callable[[], None] = lambda: None,
        behind: "Consumer | None" = None,
    ) -> None:
        self._settings = settings
        self._queues = queues
        self._handle = handle
        self._prefetch = prefetch
        self._breaker = Breaker(checks)
        self._on_settled = on_settled
        self._on_takeover = on_takeover
        self._behind = behind
        self._in_flight: set[asyncio.Task[None]] = set()
        self._state = "not connected yet"

    async def check(self) -> None:
        """Raise BrokerUnavailableError unless deliveries are being taken."""
        if self._state:
            raise BrokerUnavailableError(self._state)

    async def run(self, stop: asyncio.Event, *, drain_seconds: float = 20.0) -> None:
        """Consume until ``stop`` is set, reconnecting and pausing as needed.

        On the way out no further delivery is taken, those in flight get ``drain_seconds`` to
        finish, and what is left then stays unsettled.

        Raises:
            Exception: A bug in settling: nothing more can be promised, so the process must end.
        """
        try:
            while not stop.is_set():
                try:
                    cause = await self._consume_once(stop, drain_seconds)
                except BrokerUnavailableError as error:
                    cause = error
                if cause is not None and not stop.is_set():
                    self._state = f"paused: {cause.dependency} does not answer ({cause})"[:300]
                    await self._breaker.pause(cause, stop)
        finally:
            self._state = "stopped"
            for task in self._in_flight:
                task.cancel()
            await asyncio.gather(*self._in_flight, return_exceptions=True)

    async def _consume_once(
        self, stop: asyncio.Event, drain_seconds: float
    ) -> UnavailableError | None:
        """Consume on one connection; return why it ended (None: asked to stop)."""
        async with connect(self._settings) as connection:
            session = Session(Publisher(await open_channel(connection, confirms=True)))
            channel = await open_channel(connection, confirms=False)
            with broker_errors(self._queues.work):
                await channel.set_qos(prefetch_count=self._prefetch)
                await session.watch(connection, channel)
                stop_feed = await self._feed(connection, channel, session)
            self._state = ""
            log.info("consuming", queue=self._queues.work, prefetch=self._prefetch)
            await _first_of(stop.wait(), session.ended.wait())
            self._state = f"paused: {session.cause}" if session.cause else "stopping"
            with suppress(*BROKER_ERRORS):
                await stop_feed()
            session.consuming_stopped.set()
            if session.bug is not None:
                raise session.bug
            if self._in_flight and not session.is_lost:
                await asyncio.wait(self._in_flight, timeout=drain_seconds)
            if self._queues.partitions:
                for task in self._in_flight:  # with the connection its hosts go to another process
                    task.cancel()
            return session.cause

    async def _feed(self, connection: Connection, channel: Channel, session: Session) -> StopFeed:
        """Begin to take deliveries; return what ends it."""
        if self._queues.partitions:
            return await self._share(connection, channel, session)
        queue = await channel.get_queue(self._queues.work)
        if self._behind is not None:
            return self._pull(channel, queue, session, self._behind)

        async def accept(message: Message) -> None:
            self._start(message, session)

        tag = await queue.consume(accept)

        async def cancel() -> None:
            if not session.is_lost:
                await queue.cancel(tag, timeout=CONNECT_TIMEOUT_SECONDS)

        return cancel

    async def _share(self, connection: Connection, channel: Channel, session: Session) -> StopFeed:
        """Begin to take the deliveries of a fair share of the partitions."""
        partitions = Partitions(
            connection,
            self._queues,
            start=lambda message: self._start(message, session),
            lost=session.lose,
            taken_over=self._on_takeover,
            prefetch=self._prefetch,
        )
        await partitions.subscribe(channel)
        task = asyncio.create_task(partitions.share(channel))
        task.add_done_callback(session.check_task)

        async def end() -> None:
            # Where the connection is lost another process works on the same hosts by now
            partitions.leave(at_once=session.is_lost)
            await _cancel(task)

        return end

    def _pull(
        self, channel: Channel, queue: Queue, session: Session, first: "Consumer"
    ) -> StopFeed:
        """Begin to take deliveries one by one, none of them while ``first`` has work."""

        async def pull() -> None:
            while True:
                if len(self._in_flight) >= self._prefetch:
                    await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
                    continue
                message = None
                if await first.has_nothing_to_do(channel):
                    message = await queue.get(fail=False)
                if message is None:
                    await asyncio.sleep(IDLE_POLL_SECONDS)
                else:
                    self._start(message, session)

        task = asyncio.create_task(pull())
        task.add_done_callback(session.check_task)

        async def end() -> None:
            await _cancel(task)

        return end

    async def has_nothing_to_do(self, channel: Channel) -> bool:
        """Whether no delivery waits in the work queue and none is in work here."""
        is_idle = not self._state and not self._in_flight
        return is_idle and await depth_of(channel, self._queues.work) == 0

    def _start(self, message: Message, session: Session) -> Work:
        """Begin the work of a delivery; ``run`` waits for it."""
        work = Work()
        task = asyncio.create_task(self._settle(message, session, work))
        work.task = task
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)
        task.add_done_callback(session.check_task)
        return work

    async def _settle(self, message: Message, session: Session, work: Work) -> None:
        delivery = to_delivery(message.body, message.headers, self._queues)
        try:
            if verdict := renewed(delivery, self._queues):
                outcome, code = await self._send_on(message, verdict, session)
            else:
                outcome, code = await self._work(message, delivery, session, work)
        except (*BROKER_ERRORS, BrokerUnavailableError) as error:
            # Unsettled, so it comes again: the handler is idempotent.
            log.warning("delivery not settled", error=f"{type(error).__name__}: {error}")
            outcome, code = Outcome.LOST, BrokerUnavailableError.code
            session.trip(BrokerUnavailableError(str(error)))
        self._on_settled(outcome, code)

    async def _work(
        self, message: Message, delivery: Delivery, session: Session, work: Work
    ) -> tuple[Outcome, str]:
        try:
            code = await self._handle(replace(delivery, begin=work.begin))
        except PostponedError as error:
            return await self._send_on(message, postpone(error, delivery, self._queues), session)
        except UnavailableError as error:
            session.trip(error)
            await session.consuming_stopped.wait()  # else it would come back at once
            if is_worn_out(delivery):
                return await self._send_on(message, judge(error, delivery, self._queues), session)
            if verdict := returned(delivery, self._queues):
                return await self._send_on(message, verdict, session)
            # MOST_RETURNS needs the count of deliveries, to which RabbitMQ 4.3 adds no nack
            await message.reject(requeue=True)
            return Outcome.RETURNED, error.code
        except Exception as error:
            verdict = judge(error, delivery, self._queues)
            log.warning(
                "delivery failed",
                code=verdict.code,
                error=str(error)[:300],
                queue=verdict.queue,
                attempt=delivery.attempt,
                exc_info=verdict.code == "bug",
            )
            return await self._send_on(message, verdict, session)
        await message.ack()
        self._breaker.reset()
        return Outcome.ACKED, code

    async def _send_on(
        self, message: Message, verdict: Verdict, session: Session
    ) -> tuple[Outcome, str]:
        """Have RabbitMQ confirm the copy before the original goes."""
        await session.publisher.publish(message.body, queue=verdict.queue, headers=verdict.headers)
        await message.ack()
        return verdict.outcome, verdict.code


async def _cancel(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end.

    Before Python 3.12 ``wait_for`` loses a cancellation where its answer comes in the same moment,
    so a task that uses it may have to be told again.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN_SECONDS)


async def _first_of(*waits: Awaitable[Any]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
