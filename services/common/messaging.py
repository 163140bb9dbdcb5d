"""RabbitMQ: publish with confirmation, consume with settlement (see ``settlement``).

Nothing is declared here: ``rabbitmq/definitions.json`` is the only place that does.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import AMQPException, ChannelInvalidStateError, DeliveryError
from tenacity import AsyncRetrying, wait_random_exponential

from services.common.errors import BrokerUnavailableError, UnavailableError
from services.common.settings import AmqpSettings
from services.common.settlement import Handler, Outcome, Queues, judge, to_delivery

log = structlog.stdlib.get_logger(__name__)

CONNECT_TIMEOUT_SECONDS = 10.0
CONFIRM_TIMEOUT_SECONDS = 30.0
LARGEST_PAUSE_SECONDS = 15.0
BROKER_ERRORS = (AMQPException, ChannelInvalidStateError, OSError, TimeoutError)

Settled = Callable[[Outcome, str], None]
"""Told once a delivery: its outcome and code."""
Check = Callable[[], Awaitable[None]]


@asynccontextmanager
async def _connect(settings: AmqpSettings) -> AsyncIterator[AbstractConnection]:
    try:
        connection = await aio_pika.connect(str(settings.url), timeout=CONNECT_TIMEOUT_SECONDS)
    except BROKER_ERRORS as error:
        raise BrokerUnavailableError(f"{type(error).__name__}: {error}") from error
    try:
        yield connection
    finally:
        with suppress(*BROKER_ERRORS):
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await connection.close()


class Publisher:
    """Publishes with confirmation; many may be under way at once."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel

    async def publish(
        self, body: bytes, *, queue: str, headers: Mapping[str, Any] | None = None
    ) -> None:
        """Put a persistent message into ``queue`` and wait for its confirmation.

        Raises:
            BrokerUnavailableError: It was not confirmed; it may still arrive.
        """
        message = aio_pika.Message(
            body,
            headers=dict(headers or {}),
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            content_type="application/json",
        )
        try:
            await self._channel.default_exchange.publish(
                message, routing_key=queue, timeout=CONFIRM_TIMEOUT_SECONDS
            )
        except (*BROKER_ERRORS, DeliveryError) as error:
            reason = f"{queue}: {type(error).__name__}: {error}"
            raise BrokerUnavailableError(reason) from error


@asynccontextmanager
async def open_publisher(settings: AmqpSettings) -> AsyncIterator[Publisher]:
    """Connect for the length of an ``async with`` block; a lost connection is not reopened.

    Raises:
        BrokerUnavailableError: RabbitMQ does not answer.
    """
    async with _connect(settings) as connection:
        try:
            channel = await connection.channel(on_return_raises=True)
        except BROKER_ERRORS as error:
            raise BrokerUnavailableError(f"{type(error).__name__}: {error}") from error
        yield Publisher(channel)


async def check_broker(settings: AmqpSettings) -> None:
    """Raise BrokerUnavailableError unless a connection can be opened."""
    async with _connect(settings):
        pass


class Consumer:
    """Hands the deliveries of one work queue to a handler and settles each exactly once.

    Args:
        settings: Address of RabbitMQ.
        queues: The work queue and where failures go.
        handle: Does the work of one delivery; at most ``prefetch`` run at once.
        prefetch: Deliveries held at once.
        checks: By name of a dependency: returns when it answers again, raises while it does not.
        on_settled: Told the outcome of each delivery.
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
    ) -> None:
        self._settings = settings
        self._queues = queues
        self._handle = handle
        self._prefetch = prefetch
        self._checks = checks
        self._on_settled = on_settled
        self._in_flight: set[asyncio.Task[None]] = set()
        self._state = "not connected yet"
        self._pauses_in_a_row = 0

    async def check(self) -> None:
        """Raise BrokerUnavailableError unless deliveries are being taken."""
        if self._state:
            raise BrokerUnavailableError(self._state)

    async def run(self, stop: asyncio.Event, *, drain_seconds: float = 20.0) -> None:
        """Consume until ``stop`` is set, reconnecting and pausing as needed.

        On the way out no further delivery is taken, those in flight get ``drain_seconds`` to
        finish, and what is left then stays unsettled.
        """
        try:
            while not stop.is_set():
                try:
                    cause = await self._consume_once(stop, drain_seconds)
                except BrokerUnavailableError as error:
                    cause = error
                if cause is not None and not stop.is_set():
                    await self._pause(cause, stop)
        finally:
            self._state = "stopped"
            for task in self._in_flight:
                task.cancel()
            await asyncio.gather(*self._in_flight, return_exceptions=True)

    async def _consume_once(
        self, stop: asyncio.Event, drain_seconds: float
    ) -> UnavailableError | None:
        """Consume on one connection; return why it ended (None: asked to stop)."""
        async with _connect(self._settings) as connection:
            session = _Session(self, Publisher(await _channel(connection, confirms=True)))
            channel = await _channel(connection, confirms=False)
            try:
                await channel.set_qos(prefetch_count=self._prefetch)
                queue = await channel.get_queue(self._queues.work)
                tag = await queue.consume(session.accept)
            except BROKER_ERRORS as error:
                raise BrokerUnavailableError(f"{self._queues.work}: {error}") from error
            self._state = ""
            log.info("consuming", queue=self._queues.work, prefetch=self._prefetch)
            lost = asyncio.ensure_future(connection.closed())
            await _first_of(lost, stop.wait(), session.tripped.wait())
            self._state = f"paused: {session.cause}" if session.cause else "stopping"
            if lost.done():
                session.consuming_stopped.set()
                return BrokerUnavailableError("connection lost")
            with suppress(*BROKER_ERRORS):
                await queue.cancel(tag, timeout=CONNECT_TIMEOUT_SECONDS)
            session.consuming_stopped.set()
            if self._in_flight:
                await asyncio.wait(self._in_flight, timeout=drain_seconds)
            lost.cancel()
            return session.cause

    async def _pause(self, cause: UnavailableError, stop: asyncio.Event) -> None:
        """Wait until the missing dependency answers; longer when pauses follow each other."""
        self._state = f"paused: {cause.dependency} does not answer ({cause})"[:300]
        log.warning("paused", dependency=cause.dependency, code=cause.code, error=str(cause))
        self._pauses_in_a_row += 1
        check = self._checks.get(cause.dependency)
        backoff = AsyncRetrying(
            wait=wait_random_exponential(multiplier=0.5, max=LARGEST_PAUSE_SECONDS),
            sleep=lambda seconds: _wait(stop, seconds),
            reraise=True,
        )
        first = min(LARGEST_PAUSE_SECONDS, 0.1 * 2**self._pauses_in_a_row)
        await _wait(stop, first)
        async for attempt in backoff:
            with attempt:
                if check is not None and not stop.is_set():
                    await check()
        log.info("resuming", dependency=cause.dependency)

    def start(self, message: AbstractIncomingMessage, session: "_Session") -> None:
        """Begin the work of a delivery; ``run`` waits for it."""
        task = asyncio.create_task(self._settle(message, session))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    async def _settle(self, message: AbstractIncomingMessage, session: "_Session") -> None:
        try:
            outcome, code = await self._work(message, session)
        except (*BROKER_ERRORS, BrokerUnavailableError) as error:
            # Unsettled, so it comes again: the handler is idempotent.
            log.warning("delivery not settled", error=f"{type(error).__name__}: {error}")
            outcome, code = Outcome.LOST, "broker_unavailable"
            session.trip(BrokerUnavailableError(str(error)))
        self._on_settled(outcome, code)

    async def _work(
        self, message: AbstractIncomingMessage, session: "_Session"
    ) -> tuple[Outcome, str]:
        delivery = to_delivery(message.body, message.headers, self._queues)
        try:
            code = await self._handle(delivery)
        except UnavailableError as error:
            session.trip(error)
            await session.consuming_stopped.wait()  # else it would come back at once
            await message.nack(requeue=True)
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
            await session.publisher.publish(
                message.body, queue=verdict.queue, headers=verdict.headers
            )
            await message.ack()
            return verdict.outcome, verdict.code
        await message.ack()
        self._pauses_in_a_row = 0
        return Outcome.ACKED, code


class _Session:
    """What the deliveries of one connection share."""

    def __init__(self, consumer: Consumer, publisher: Publisher) -> None:
        self._consumer = consumer
        self.publisher = publisher
        self.tripped = asyncio.Event()
        self.consuming_stopped = asyncio.Event()
        self.cause: UnavailableError | None = None

    async def accept(self, message: AbstractIncomingMessage) -> None:
        self._consumer.start(message, self)

    def trip(self, cause: UnavailableError) -> None:
        self.cause = self.cause or cause
        self.tripped.set()


async def _channel(connection: AbstractConnection, *, confirms: bool) -> AbstractChannel:
    try:
        channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
        await channel.initialize(timeout=CONNECT_TIMEOUT_SECONDS)
    except BROKER_ERRORS as error:
        raise BrokerUnavailableError(f"{type(error).__name__}: {error}") from error
    return channel


async def _first_of(*waits: Awaitable[Any]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks[1:]:
            task.cancel()


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
