"""Consume a work queue, or its partitions, and settle each delivery exactly once."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
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
    Session,
    connect,
    depth_of,
    open_channel,
    translate_broker_errors,
)
from services.common.adapters.rabbitmq.partitions import Feed, Partitions, Work
from services.common.adapters.rabbitmq.retry_policy import (
    BUG,
    Delivery,
    DeliveryOutcome,
    Disposition,
    Handler,
    Queues,
    decide_renewal,
    decide_retry,
    to_delivery,
)
from services.common.domain.errors import BrokerUnavailableError, UnavailableError
from services.common.runtime.periodic import Check, DependencyGate, first_of
from services.common.runtime.settings import AmqpSettings

log = structlog.stdlib.get_logger(__name__)

CANCEL_AGAIN_SECONDS = 1.0
IDLE_POLL_SECONDS = 0.25
"""Interval to check whether the preferred queue is idle."""
Settled = Callable[[DeliveryOutcome, str], None]
"""Called once per delivery with its outcome and code."""
StopFeed = Callable[[], Coroutine[Any, Any, None]]


class Consumer:
    """Passes the deliveries of one work queue to a handler and settles each exactly once.

    Args:
        settings: Address of RabbitMQ.
        queues: The work queue and where failures go.
        handle: Processes one delivery; concurrency is ``prefetch``.
        prefetch: Unsettled deliveries, per partition if there are partitions.
        checks: Health checks, by name of the dependency.
        on_settled: Called with the outcome of each delivery.
        on_takeover: Called before the first delivery of a partition from another process.
        behind: A preferred consumer: deliveries are taken only while it is idle.
    """

    def __init__(
        self,
        settings: AmqpSettings,
        queues: Queues,
        handle: Handler,
        *,
        prefetch: int,
        checks: Mapping[str, Check],
        on_settled: Settled = lambda _, __: None,
        on_takeover: Callable[[], None] = lambda: None,
        behind: "Consumer | None" = None,
    ) -> None:
        self._settings = settings
        self._queues = queues
        self._handle = handle
        self._prefetch = prefetch
        self._gate = DependencyGate(checks)
        self._on_settled = on_settled
        self._on_takeover = on_takeover
        self._behind = behind
        self._in_flight: set[asyncio.Task[None]] = set()
        self._state = "not connected yet"

    async def check(self) -> None:
        """Raise BrokerUnavailableError unless consuming."""
        if self._state:
            raise BrokerUnavailableError(self._state)

    async def run(self, stop: asyncio.Event, *, drain_seconds: float = 20.0) -> None:
        """Consume until ``stop`` is set, reconnecting and pausing as needed.

        On shutdown no further delivery is taken, those in flight get ``drain_seconds`` to finish,
        and the rest stays unsettled.

        Raises:
            Exception: A bug in settling; the process must end.
        """
        try:
            while not stop.is_set():
                try:
                    cause = await self._consume_once(stop, drain_seconds)
                except BrokerUnavailableError as error:
                    cause = error
                if cause is not None and not stop.is_set():
                    self._state = f"paused: {cause.dependency} does not answer ({cause})"[:300]
                    await self._gate.wait_until_healthy(cause, stop)
        finally:
            self._state = "stopped"
            for task in self._in_flight:
                task.cancel()
            await asyncio.gather(*self._in_flight, return_exceptions=True)

    async def _consume_once(
        self, stop: asyncio.Event, drain_seconds: float
    ) -> UnavailableError | None:
        """Consume until a server is missing; return the error that says which (None: stopped).

        Copies are published on a connection of their own: where RabbitMQ is short of memory or disk
        it reads nothing more from a connection that publishes, acknowledgements included. A copy
        waits for its confirmation as long as that lasts: given up, it might arrive nevertheless.
        """
        async with connect(self._settings) as publishing, connect(self._settings) as connection:
            copies = await open_channel(publishing, confirms=True)
            session = Session(Publisher(copies, confirm_seconds=None))
            channel = await open_channel(connection, confirms=False)
            with translate_broker_errors(self._queues.work):
                await channel.set_qos(prefetch_count=self._prefetch)
                await session.watch(publishing, copies)
                await session.watch(connection, channel)
                stop_feed = await self._feed(connection, channel, session)
            self._state = ""
            log.info("consuming", queue=self._queues.work, prefetch=self._prefetch)
            await first_of(stop.wait(), session.ended.wait())
            self._state = f"paused: {session.cause}" if session.cause else "stopping"
            with suppress(*BROKER_ERRORS):
                await stop_feed()
            session.consuming_stopped.set()
            if session.bug is not None:
                raise session.bug
            if self._in_flight and not session.is_lost:
                await asyncio.wait(self._in_flight, timeout=drain_seconds)
            if self._queues.partitions:
                # closing the connection hands its hosts to another process
                for task in self._in_flight:
                    task.cancel()
            return session.cause

    async def _feed(self, connection: Connection, channel: Channel, session: Session) -> StopFeed:
        """Start consuming; return the function that stops it."""
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
        """Start consuming a fair share of the partitions."""
        feed = Feed(
            start=lambda message: self._start(message, session),
            lost=session.lose,
            taken_over=self._on_takeover,
            prefetch=self._prefetch,
        )
        partitions = Partitions(connection, self._queues, feed)
        await partitions.subscribe(channel)
        task = asyncio.create_task(partitions.share(channel))
        task.add_done_callback(session.check_task)

        async def end() -> None:
            # After a lost connection another process may already work on the same hosts
            partitions.leave(at_once=session.is_lost)
            await _cancel(task)

        return end

    def _pull(
        self, channel: Channel, queue: Queue, session: Session, first: "Consumer"
    ) -> StopFeed:
        """Start consuming one by one, only while ``first`` is idle."""

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

    @property
    def is_idle(self) -> bool:
        """Whether it consumes, and nothing is in flight here."""
        return not self._state and not self._in_flight

    async def has_nothing_to_do(self, channel: Channel) -> bool:
        """Whether the work queue is empty and nothing is in flight here."""
        return self.is_idle and await depth_of(channel, self._queues.work) == 0

    def _start(self, message: Message, session: Session) -> Work:
        """Start processing a delivery; ``run`` waits for it."""
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
            if disposition := decide_renewal(delivery, self._queues):
                outcome, code = await self._carry_out(disposition, message, session)
            else:
                outcome, code = await self._work(message, delivery, session, work)
        except (*BROKER_ERRORS, BrokerUnavailableError) as error:
            # Unsettled, so it is redelivered: the handler is idempotent.
            log.warning("delivery not settled", error=f"{type(error).__name__}: {error}")
            outcome, code = DeliveryOutcome.LOST, BrokerUnavailableError.code
            session.trip(BrokerUnavailableError(str(error)))
        self._on_settled(outcome, code)

    async def _work(
        self, message: Message, delivery: Delivery, session: Session, work: Work
    ) -> tuple[DeliveryOutcome, str]:
        try:
            code = await self._handle(replace(delivery, begin=work.begin))
        except UnavailableError as error:
            session.trip(error)
            await session.consuming_stopped.wait()  # otherwise it would be redelivered at once
            disposition = decide_retry(error, delivery, self._queues)
            return await self._carry_out(disposition, message, session)
        except Exception as error:
            disposition = decide_retry(error, delivery, self._queues)
            if disposition.outcome is not DeliveryOutcome.POSTPONED:
                log.warning(
                    "delivery failed",
                    code=disposition.code,
                    error=str(error)[:300],
                    queue=disposition.queue,
                    attempt=delivery.attempt,
                    exc_info=disposition.code == BUG,
                )
            return await self._carry_out(disposition, message, session)
        await message.ack()
        self._gate.reset()
        return DeliveryOutcome.ACKED, code

    async def _carry_out(
        self, disposition: Disposition, message: Message, session: Session
    ) -> tuple[DeliveryOutcome, str]:
        """Publish the copy with confirmation, then acknowledge the original; or requeue it."""
        if disposition.queue:
            await session.publisher.publish(
                message.body, queue=disposition.queue, headers=disposition.headers
            )
            await message.ack()
        else:
            # MOST_RETURNS needs the delivery count, which RabbitMQ 4.3 does not raise on nack
            await message.reject(requeue=True)
        return disposition.outcome, disposition.code


async def _cancel(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end.

    Before Python 3.12 ``wait_for`` loses a cancellation that coincides with its result, so the task
    may have to be cancelled again.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN_SECONDS)
