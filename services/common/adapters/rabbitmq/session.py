"""Consuming session on one connection, ended by the first failure."""

import asyncio

from services.common.adapters.rabbitmq.messaging import (
    BROKER_ERRORS,
    Channel,
    Connection,
    Publisher,
)
from services.common.domain.errors import BrokerUnavailableError, UnavailableError


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
        """End the session when its connection or channel closes, or its queue goes away.

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
