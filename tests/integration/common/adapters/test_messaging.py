"""Settlement against a real RabbitMQ."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import AMQPException

from services.common.adapters.rabbitmq import consumer, messaging, retry_policy
from services.common.adapters.rabbitmq.consumer import Consumer
from services.common.adapters.rabbitmq.messaging import (
    Connection,
    check_broker,
    open_publisher,
    open_queue,
)
from services.common.adapters.rabbitmq.retry_policy import (
    Delivery,
    DeliveryOutcome,
    Handler,
    Queues,
)
from services.common.domain.errors import (
    BrokerUnavailableError,
    InvalidEventError,
    OcrUnavailableError,
    TransientError,
)
from services.common.runtime import periodic
from services.common.runtime.periodic import Check
from services.common.runtime.settings import AmqpSettings
from tests.support.waiting import DEADLINE_SECONDS, deadline, eventually, until

DELAY_MS = 50


class HiccupError(TransientError):
    code = "hiccup"


@pytest.fixture
async def channel(amqp_settings: AmqpSettings) -> AsyncIterator[AbstractChannel]:
    connection = await aio_pika.connect(str(amqp_settings.url))
    async with connection, connection.channel() as channel:
        yield channel


@pytest.fixture
async def queues(channel: AbstractChannel) -> AsyncIterator[Queues]:
    name = f"test-{uuid4()}"
    names = Queues(name, (f"{name}.soon", f"{name}.later"), f"{name}.parked")
    quorum: dict[str, Any] = {"x-queue-type": "quorum"}
    for queue in (names.work, names.parked):
        await channel.declare_queue(queue, durable=True, arguments=dict(quorum))
    for queue in names.delays:
        back: dict[str, Any] = {
            **quorum,
            "x-message-ttl": DELAY_MS,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": name,
        }
        await channel.declare_queue(queue, durable=True, arguments=back)
    yield names
    for queue in (names.work, *names.delays, names.parked):
        await channel.queue_delete(queue)


class Run:
    """A running consumer and what became of its deliveries."""

    def __init__(self) -> None:
        self.settled: list[tuple[DeliveryOutcome, str]] = []
        self.consumer: Consumer

    def on_settled(self, outcome: DeliveryOutcome, code: str) -> None:
        self.settled.append((outcome, code))

    async def until(self, count: int) -> list[tuple[DeliveryOutcome, str]]:
        await until(lambda: len(self.settled) >= count)
        return self.settled


@asynccontextmanager
async def consuming(
    settings: AmqpSettings,
    queues: Queues,
    handle: Handler,
    *,
    checks: dict[str, Check] | None = None,
    drain_seconds: float = 5,
    behind: Consumer | None = None,
) -> AsyncIterator[Run]:
    run, stop = Run(), asyncio.Event()
    consumer = Consumer(
        settings,
        queues,
        handle,
        prefetch=4,
        checks=checks or {},
        on_settled=run.on_settled,
        behind=behind,
    )
    run.consumer = consumer
    task = asyncio.create_task(consumer.run(stop, drain_seconds=drain_seconds))
    try:
        yield run
    finally:
        stop.set()
        async with deadline():
            await task


async def publish(settings: AmqpSettings, queues: Queues, *bodies: bytes) -> None:
    async with open_publisher(settings) as publisher:
        for body in bodies:
            await publisher.publish(body, queue=queues.work)


async def take(channel: AbstractChannel, queue: str) -> AbstractIncomingMessage:
    message = await (await channel.get_queue(queue)).get(timeout=DEADLINE_SECONDS)
    assert message is not None
    return message


async def depth(channel: AbstractChannel, queue: str) -> int | None:
    declared = await channel.declare_queue(queue, passive=True)
    return declared.declaration_result.message_count


async def test_handled_delivery_is_acknowledged(
    amqp_settings: AmqpSettings, queues: Queues, channel: AbstractChannel
) -> None:
    async def handle(_: Delivery) -> str:
        return "predicted"

    await publish(amqp_settings, queues, b"a", b"b")
    async with consuming(amqp_settings, queues, handle) as run:
        assert await run.until(2) == [(DeliveryOutcome.ACKED, "predicted")] * 2

    assert await depth(channel, queues.work) == 0


async def test_transient_error_comes_back_after_its_delay_then_parks(
    amqp_settings: AmqpSettings, queues: Queues, channel: AbstractChannel
) -> None:
    attempts: list[tuple[int, bool]] = []

    async def handle(delivery: Delivery) -> str:
        attempts.append((delivery.attempt, delivery.is_last_attempt))
        raise HiccupError("no luck")

    await publish(amqp_settings, queues, b"image")
    async with consuming(amqp_settings, queues, handle) as run:
        settled = await run.until(3)

    assert attempts == [(1, False), (2, False), (3, True)]
    assert [outcome for outcome, _ in settled] == [
        DeliveryOutcome.RETRIED,
        DeliveryOutcome.RETRIED,
        DeliveryOutcome.PARKED,
    ]
    parked = await take(channel, queues.parked)
    assert parked.body == b"image"
    assert parked.headers["x-code"] == "hiccup"
    assert parked.headers["x-reason"] == "no luck"
    await parked.ack()


@pytest.mark.parametrize(
    ("error", "code"), [(InvalidEventError("not JSON"), "invalid_event"), (KeyError("x"), "bug")]
)
async def test_permanent_error_and_bug_park_and_the_next_goes_on(
    amqp_settings: AmqpSettings,
    queues: Queues,
    channel: AbstractChannel,
    error: Exception,
    code: str,
) -> None:
    async def handle(delivery: Delivery) -> str:
        if delivery.body == b"bad":
            raise error
        return "predicted"

    await publish(amqp_settings, queues, b"bad", b"good")
    async with consuming(amqp_settings, queues, handle) as run:
        settled = await run.until(2)

    assert sorted(settled) == [(DeliveryOutcome.ACKED, "predicted"), (DeliveryOutcome.PARKED, code)]
    parked = await take(channel, queues.parked)
    assert parked.body == b"bad"
    await parked.ack()


async def test_missing_server_pauses_and_nothing_is_lost(
    amqp_settings: AmqpSettings, queues: Queues, channel: AbstractChannel
) -> None:
    is_up = False
    checked = asyncio.Event()
    handled: list[bytes] = []

    async def check() -> None:
        checked.set()
        if not is_up:
            raise OcrUnavailableError("down")

    async def handle(delivery: Delivery) -> str:
        if not is_up:
            raise OcrUnavailableError("down")
        handled.append(delivery.body)
        return "predicted"

    bodies = [f"{number}".encode() for number in range(20)]
    await publish(amqp_settings, queues, *bodies)
    async with consuming(amqp_settings, queues, handle, checks={"ocr-api": check}) as run:
        async with deadline():
            await checked.wait()
        before = len(run.settled)
        is_up = True
        await run.until(before + 20)

    assert before <= 4  # it stopped at the first failures instead of trying them all
    assert sorted(handled) == sorted(bodies)
    assert await depth(channel, queues.parked) == 0


async def test_cancelled_delivery_comes_back(
    amqp_settings: AmqpSettings, queues: Queues, channel: AbstractChannel
) -> None:
    started = asyncio.Event()

    async def never(_: Delivery) -> str:
        started.set()
        await asyncio.Event().wait()
        return ""

    await publish(amqp_settings, queues, b"image")
    async with consuming(amqp_settings, queues, never, drain_seconds=0.1), deadline():
        await started.wait()

    again = await take(channel, queues.work)
    assert (again.body, again.redelivered) == (b"image", True)
    await again.ack()


async def test_stopping_finishes_what_is_in_work(
    amqp_settings: AmqpSettings, queues: Queues, channel: AbstractChannel
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Delivery) -> str:
        started.set()
        await go_on.wait()
        return "predicted"

    await publish(amqp_settings, queues, b"image")
    async with consuming(amqp_settings, queues, slow) as run:
        async with deadline():
            await started.wait()
        asyncio.get_running_loop().call_later(0.2, go_on.set)

    assert run.settled == [(DeliveryOutcome.ACKED, "predicted")]
    assert await depth(channel, queues.work) == 0


async def is_paused(consumer: Consumer) -> bool:
    try:
        await consumer.check()
    except BrokerUnavailableError:
        return True
    return False


async def test_queue_that_is_deleted_and_redeclared_is_consumed(
    amqp_settings: AmqpSettings, queues: Queues, channel: AbstractChannel
) -> None:
    async def handle(delivery: Delivery) -> str:
        return delivery.body.decode()

    await publish(amqp_settings, queues, b"before")
    async with consuming(amqp_settings, queues, handle) as run:
        await run.until(1)
        await channel.queue_delete(queues.work)
        await eventually(lambda: is_paused(run.consumer))
        await channel.declare_queue(queues.work, durable=True, arguments={"x-queue-type": "quorum"})
        await publish(amqp_settings, queues, b"after")
        assert (await run.until(2))[1] == (DeliveryOutcome.ACKED, "after")


async def close_connection(channel: AbstractChannel) -> None:
    """Have RabbitMQ close the connection of a channel: it does not know this flag."""
    await channel.default_exchange.publish(aio_pika.Message(b""), "", immediate=True)


async def close_channel(channel: AbstractChannel) -> None:
    """Have RabbitMQ close a channel alone."""
    await channel.declare_queue("no such queue", passive=True)


@pytest.mark.parametrize("close", [close_connection, close_channel])
@pytest.mark.parametrize("lost", ["consuming", "publishing"])
async def test_each_connection_that_is_lost_is_replaced(
    amqp_settings: AmqpSettings,
    queues: Queues,
    monkeypatch: pytest.MonkeyPatch,
    close: Callable[[AbstractChannel], Awaitable[None]],
    lost: str,
) -> None:
    opened = list[AbstractChannel]()

    async def open_channel(connection: Connection, *, confirms: bool) -> AbstractChannel:
        opened.append(await messaging.open_channel(connection, confirms=confirms))
        return opened[-1]

    async def handle(_: Delivery) -> str:
        raise InvalidEventError("parked")

    monkeypatch.setattr(consumer, "open_channel", open_channel)
    async with consuming(amqp_settings, queues, handle) as run:
        await until(lambda: run.consumer.is_idle)
        with suppress(AMQPException):
            await close(opened[lost == "consuming"])
        await until(lambda: len(opened) == 4 and run.consumer.is_idle)
        await publish(amqp_settings, queues, b"image")
        assert await run.until(1) == [(DeliveryOutcome.PARKED, InvalidEventError.code)]


async def test_bug_in_settling_ends_the_consumer(
    amqp_settings: AmqpSettings, queues: Queues
) -> None:
    async def handle(_: Delivery) -> str:
        raise HiccupError("no luck")

    def on_settled(outcome: DeliveryOutcome, code: str) -> None:
        raise ZeroDivisionError(f"{outcome} {code}")

    await publish(amqp_settings, queues, b"image")
    consumer = Consumer(amqp_settings, queues, handle, prefetch=4, checks={}, on_settled=on_settled)
    with pytest.raises(ZeroDivisionError):
        async with deadline():
            await consumer.run(asyncio.Event())
    with pytest.raises(BrokerUnavailableError, match="stopped"):
        await consumer.check()


async def test_pause_lasts_as_long_as_the_server_asked(
    amqp_settings: AmqpSettings, queues: Queues
) -> None:
    times: list[float] = []

    async def handle(_: Delivery) -> str:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            raise OcrUnavailableError("503", retry_after_seconds=1.5)
        return "predicted"

    await publish(amqp_settings, queues, b"image")
    async with consuming(amqp_settings, queues, handle) as run:
        await run.until(2)

    assert times[1] - times[0] >= 1.5


async def test_background_work_is_done_only_without_other_work(
    amqp_settings: AmqpSettings, queues: Queues, channel: AbstractChannel
) -> None:
    later = Queues(f"{queues.work}.background", (), queues.parked)
    await channel.declare_queue(later.work, durable=True, arguments={"x-queue-type": "quorum"})
    order: list[str] = []
    go_on = asyncio.Event()

    async def fresh(delivery: Delivery) -> str:
        await go_on.wait()
        order.append(delivery.body.decode())
        return "fresh"

    async def waiting(delivery: Delivery) -> str:
        order.append(delivery.body.decode())
        return "later"

    try:
        await publish(amqp_settings, later, b"later 1", b"later 2")
        await publish(amqp_settings, queues, *(b"fresh" for _ in range(6)))
        async with (
            consuming(amqp_settings, queues, fresh) as first,
            consuming(amqp_settings, later, waiting, behind=first.consumer) as second,
        ):
            asyncio.get_running_loop().call_later(1, go_on.set)
            await first.until(6)
            await second.until(2)
    finally:
        await channel.queue_delete(later.work)

    assert order[:6] == ["fresh"] * 6
    assert sorted(order[6:]) == ["later 1", "later 2"]


async def test_looking_at_a_queue_takes_nothing_and_keeps_the_order(
    amqp_settings: AmqpSettings, queues: Queues
) -> None:
    await publish(amqp_settings, queues, b"1", b"2", b"3")

    for _ in range(2):
        async with open_queue(amqp_settings, queues.work) as messages:
            assert [message.body async for message in messages] == [b"1", b"2", b"3"]
    async with open_queue(amqp_settings, queues.work) as messages:
        async for message in messages:
            if message.body == b"2":
                await message.drop()
    async with open_queue(amqp_settings, queues.work) as messages:
        assert [message.body async for message in messages] == [b"1", b"3"]


async def test_publishing_to_no_queue_is_an_error(amqp_settings: AmqpSettings) -> None:
    async with open_publisher(amqp_settings) as publisher:
        with pytest.raises(BrokerUnavailableError, match=r"no\.such\.queue"):
            await publisher.publish(b"", queue="no.such.queue")


async def test_unreachable_broker_is_unavailable() -> None:
    nowhere: dict[str, Any] = {"url": "amqp://admin:admin@127.0.0.1:9/"}
    with pytest.raises(BrokerUnavailableError):
        await check_broker(AmqpSettings(**nowhere))


async def test_refused_work_is_retried_and_parked_with_its_reason(
    amqp_settings: AmqpSettings,
    queues: Queues,
    channel: AbstractChannel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retry_policy, "MOST_RETURNS", 1)
    monkeypatch.setattr(retry_policy, "MOST_COPIES", 1)
    monkeypatch.setattr(periodic, "LARGEST_PAUSE_SECONDS", 0.1)

    async def check() -> None:
        """Answer well, as a server does that refuses the work itself."""

    async def handle(_: Delivery) -> str:
        raise OcrUnavailableError("401")

    await publish(amqp_settings, queues, b"image")
    checks: dict[str, Check] = {"ocr-api": check}
    async with consuming(amqp_settings, queues, handle, checks=checks) as run:
        settled = await run.until(4)

    assert [outcome for outcome, _ in settled] == [
        DeliveryOutcome.RETURNED,  # at once
        DeliveryOutcome.RETURNED,  # as a copy, after a rest: RabbitMQ counts from 0 again
        DeliveryOutcome.RETURNED,
        DeliveryOutcome.PARKED,
    ]
    parked = await take(channel, queues.parked)
    assert (parked.headers["x-code"], parked.body) == ("ocr_unavailable", b"image")
    assert "401" in str(parked.headers["x-reason"])
    await parked.ack()
