"""RabbitMQ client: connect, publish with confirmation, inspect queues.

Queues are declared in ``rabbitmq/definitions.json`` only.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aio_pika
from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractIncomingMessage,
    AbstractQueue,
)
from aio_pika.exceptions import AMQPException, ChannelInvalidStateError, DeliveryError

from services.common.domain.errors import BrokerUnavailableError, UnavailableError
from services.common.runtime.settings import AmqpSettings

CONNECT_TIMEOUT_SECONDS = 10.0
CONFIRM_TIMEOUT_SECONDS = 30.0

Connection = AbstractConnection
Channel = AbstractChannel
Queue = AbstractQueue
Message = AbstractIncomingMessage

BROKER_ERRORS = (AMQPException, ChannelInvalidStateError, OSError, TimeoutError)


@asynccontextmanager
async def connect(settings: AmqpSettings) -> AsyncIterator[Connection]:
    """Connect for an ``async with`` block; a lost connection is not reopened."""
    with translate_broker_errors():
        connection = await aio_pika.connect(str(settings.url), timeout=CONNECT_TIMEOUT_SECONDS)
    try:
        yield connection
    finally:
        with suppress(*BROKER_ERRORS):
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await connection.close()


class Publisher:
    """Publishes with confirmation; safe for concurrent use.

    Args:
        channel: With confirmations.
        confirm_seconds: Limit to wait for one; None: as long as the connection lasts.
    """

    def __init__(
        self, channel: Channel, *, confirm_seconds: float | None = CONFIRM_TIMEOUT_SECONDS
    ) -> None:
        self._channel = channel
        self._confirm_seconds = confirm_seconds

    async def depth(self, queue: str) -> int:
        """Return the number of ready messages in a queue.

        Raises:
            BrokerUnavailableError: RabbitMQ does not answer, or has no such queue.
        """
        with translate_broker_errors(queue):
            return await depth_of(self._channel, queue)

    async def publish(
        self,
        body: bytes,
        *,
        queue: str,
        headers: Mapping[str, Any] | None = None,
        exchange: str = "",
    ) -> None:
        """Publish a persistent message and wait for its confirmation.

        Args:
            body: The message.
            queue: Its name; the routing key if ``exchange`` is set.
            headers: Of the message.
            exchange: Routes to a queue.

        Raises:
            BrokerUnavailableError: It was not confirmed; it may arrive nevertheless.
        """
        message = aio_pika.Message(
            body,
            headers=dict(headers or {}),
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            content_type="application/json",
        )
        with translate_broker_errors(queue):
            chosen = self._channel.default_exchange
            if exchange:
                chosen = await self._channel.get_exchange(exchange, ensure=False)
            await chosen.publish(message, routing_key=queue, timeout=self._confirm_seconds)


@asynccontextmanager
async def open_publisher(settings: AmqpSettings) -> AsyncIterator[Publisher]:
    """Connect for an ``async with`` block; a lost connection is not reopened."""
    async with connect(settings) as connection:
        yield Publisher(await open_channel(connection, confirms=True))


@dataclass(frozen=True)
class PeekedMessage:
    """A message held exclusively while it is inspected."""

    body: bytes
    headers: Mapping[str, Any]
    drop: Callable[[], Awaitable[None]]
    """Removes it from its queue."""


@asynccontextmanager
async def open_queue(
    settings: AmqpSettings, queue: str
) -> AsyncIterator[AsyncIterator[PeekedMessage]]:
    """Iterate over the current messages of a queue, oldest first.

    Messages that are not dropped return in order at the end of the ``async with`` block, as their
    channel is closed.

    Raises:
        BrokerUnavailableError: RabbitMQ does not answer, or has no such queue.
    """
    async with connect(settings) as connection:
        channel = await open_channel(connection, confirms=False)

        async def messages() -> AsyncIterator[PeekedMessage]:
            with translate_broker_errors(queue):
                source = await channel.get_queue(queue)
                for _ in range(await depth_of(channel, queue)):
                    message = await source.get(fail=False, timeout=CONFIRM_TIMEOUT_SECONDS)
                    if message is None:
                        return
                    yield PeekedMessage(message.body, message.headers, message.ack)

        yield messages()


@contextmanager
def translate_broker_errors(queue: str = "") -> Iterator[None]:
    """Translate the client's errors into BrokerUnavailableError."""
    try:
        yield
    except (*BROKER_ERRORS, DeliveryError) as error:
        where = f"{queue}: " if queue else ""
        raise BrokerUnavailableError(f"{where}{type(error).__name__}: {error}") from error


async def depth_of(channel: Channel, queue: str) -> int:
    """Return the number of ready messages in a queue."""
    declared = await channel.declare_queue(queue, passive=True, timeout=CONNECT_TIMEOUT_SECONDS)
    return declared.declaration_result.message_count or 0


async def queue_depth(settings: AmqpSettings, queue: str) -> int:
    """Return the number of ready messages in a queue, on a connection of its own.

    Raises:
        BrokerUnavailableError: RabbitMQ does not answer, or has no such queue.
    """
    async with open_publisher(settings) as publisher:
        return await publisher.depth(queue)


async def consumers_of(channel: Channel, queue: str) -> int:
    """Return the number of consumers of a queue (at most 1 with single active consumer)."""
    declared = await channel.declare_queue(queue, passive=True, timeout=CONNECT_TIMEOUT_SECONDS)
    return declared.declaration_result.consumer_count or 0


async def open_channel(connection: Connection, *, confirms: bool) -> Channel:
    """Open a channel; with ``confirms``, an unroutable message is an error."""
    with translate_broker_errors():
        channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
        await channel.initialize(timeout=CONNECT_TIMEOUT_SECONDS)
    return channel


async def check_broker(settings: AmqpSettings) -> None:
    """Raise BrokerUnavailableError unless a connection can be opened."""
    async with connect(settings):
        pass


class Session:
    """State shared by the deliveries of one connection.

    Args:
        publisher: Publishes copies for retry or parking.
    """

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self.ended = asyncio.Event()
        self.consuming_stopped = asyncio.Event()
        self.cause: UnavailableError | None = None
        self.bug: BaseException | None = None
        self.is_lost = False

    async def watch(self, connection: Connection, channel: Channel) -> None:
        """End the session when a connection or channel of it closes, or its queue goes away.

        RabbitMQ closes only the channel if a delivery is held too long, and cancels only the
        consumer if its queue is deleted.
        """
        connection.close_callbacks.add(lambda *_: self.lose("connection lost"))
        channel.close_callbacks.add(lambda *_: self.lose("channel lost"))
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda _: self.lose("queue is gone"))

    def trip(self, cause: UnavailableError) -> None:
        """End the session because a dependency is unavailable."""
        self.cause = self.cause or cause
        self.ended.set()

    def check_task(self, task: asyncio.Task[None]) -> None:
        """End the session if one of its tasks failed: its delivery is never settled."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, UnavailableError):
            self.trip(error)
        elif isinstance(error, BROKER_ERRORS):
            self.trip(BrokerUnavailableError(str(error)))
        else:
            self.bug = self.bug or error
            self.ended.set()

    def lose(self, what: str) -> None:
        """End the session; unsettled deliveries are redelivered."""
        self.is_lost = True
        self.trip(BrokerUnavailableError(what))
