"""The parking queues: looking takes nothing, replays keep their history, drops are for ever."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import pytest

from services.common.adapters.rabbitmq.consumer import Consumer
from services.common.adapters.rabbitmq.dead_letters import (
    PREVIOUS_CODE_HEADER,
    PREVIOUS_REASON_HEADER,
    ParkedMessage,
    drop,
    peek,
    replay,
)
from services.common.adapters.rabbitmq.messaging import Publisher, open_publisher
from services.common.adapters.rabbitmq.retry_policy import (
    ATTEMPT_HEADER,
    FIRST_FAILURE_HEADER,
    Delivery,
    Handler,
    Queues,
    decide_retry,
)
from services.common.domain.errors import TransientError
from services.common.runtime.settings import AmqpSettings
from tests.support.indexing import Settlements, open_queues
from tests.support.waiting import DEADLINE_SECONDS, eventually


class HiccupError(TransientError):
    code = "hiccup"


@pytest.fixture
async def queues(amqp_settings: AmqpSettings) -> AsyncIterator[Queues]:
    async with open_queues(amqp_settings, limit=1) as queues:
        yield queues


@pytest.fixture
async def publisher(amqp_settings: AmqpSettings) -> AsyncIterator[Publisher]:
    async with open_publisher(amqp_settings) as publisher:
        yield publisher


def everything(_: ParkedMessage) -> bool:
    return True


async def park(publisher: Publisher, queues: Queues, *bodies: bytes, error: Exception) -> None:
    for body in bodies:
        last = Delivery(body, 4, is_last_attempt=True, headers={ATTEMPT_HEADER: 4})
        disposition = decide_retry(error, last, queues)
        await publisher.publish(body, queue=queues.parked, headers=disposition.headers)


async def consume(
    settings: AmqpSettings, queues: Queues, handle: Handler, *, until: int
) -> list[str]:
    settlements, stop = Settlements(), asyncio.Event()
    consumer = Consumer(
        settings, queues, handle, prefetch=1, checks={}, on_settled=settlements.note
    )
    task = asyncio.create_task(consumer.run(stop))
    try:
        return list(await settlements.until(until))
    finally:
        stop.set()
        await task


async def die_holding_a_delivery(settings: AmqpSettings, queues: Queues) -> None:
    """Take a delivery and lose the connection, as a killed consumer does."""
    connection = await aio_pika.connect(str(settings.url))
    channel = await connection.channel()
    await (await channel.get_queue(queues.work)).get(timeout=DEADLINE_SECONDS)
    await connection.close()


async def parked_by_broker(settings: AmqpSettings, queues: Queues) -> list[ParkedMessage]:
    for _ in range(2):  # the limit is one return
        await die_holding_a_delivery(settings, queues)

    async def parked() -> list[ParkedMessage]:
        return await peek(settings, queues, everything)

    return await eventually(parked)


async def test_looking_often_takes_nothing_and_changes_no_id(
    amqp_settings: AmqpSettings, queues: Queues, publisher: Publisher
) -> None:
    await park(publisher, queues, b"1", b"2", b"3", error=HiccupError("no luck"))
    first = await peek(amqp_settings, queues, everything)

    for _ in range(100):
        await peek(amqp_settings, queues, everything)

    found = await peek(amqp_settings, queues, everything)
    assert [message.body for message in found] == [b"1", b"2", b"3"]
    assert [message.id for message in found] == [message.id for message in first]
    # At 32 bits, a drop of 200,000 messages would take others with it
    assert {len(message.id) for message in found} == {16}
    assert {(message.code, message.reason) for message in found} == {("hiccup", "no luck")}


async def test_replay_begins_again_and_keeps_the_history(
    amqp_settings: AmqpSettings, queues: Queues, publisher: Publisher
) -> None:
    await park(publisher, queues, b"image", error=HiccupError("no luck"))
    [before] = await peek(amqp_settings, queues, everything)
    seen: list[Delivery] = []

    async def handle(delivery: Delivery) -> str:
        seen.append(delivery)
        return "predicted"

    await replay(amqp_settings, queues, everything)
    assert await consume(amqp_settings, queues, handle, until=1) == ["predicted"]

    headers = seen[0].headers
    assert (before.attempts, seen[0].attempt) == (4, 1)
    assert seen[0].body == b"image"
    assert headers[FIRST_FAILURE_HEADER] == before.first_failure
    assert headers[PREVIOUS_CODE_HEADER] == "hiccup"
    assert headers[PREVIOUS_REASON_HEADER] == "no luck"
    assert await peek(amqp_settings, queues, everything) == []


async def test_replayed_message_that_fails_again_counts_its_replays(
    amqp_settings: AmqpSettings, queues: Queues, publisher: Publisher
) -> None:
    async def fail(_: Delivery) -> str:
        raise HiccupError("again")

    await park(publisher, queues, b"image", error=HiccupError("first"))
    for _ in range(2):
        await replay(amqp_settings, queues, everything)
        await consume(amqp_settings, queues, fail, until=2)

    [message] = await peek(amqp_settings, queues, everything)
    assert (message.replays, message.reason, message.attempts) == (2, "again", 2)


async def test_replay_takes_the_chosen_and_keeps_the_rest_in_order(
    amqp_settings: AmqpSettings, queues: Queues, publisher: Publisher
) -> None:
    await park(publisher, queues, b"1", error=HiccupError("a"))
    await park(publisher, queues, b"2", error=KeyError("b"))
    await park(publisher, queues, b"3", b"4", error=HiccupError("c"))

    done = await replay(amqp_settings, queues, lambda message: message.code == "bug")
    assert [message.body for message in done] == [b"2"]
    done = await replay(amqp_settings, queues, everything, limit=1)
    assert [message.body for message in done] == [b"1"]

    left = await peek(amqp_settings, queues, everything)
    assert [message.body for message in left] == [b"3", b"4"]
    assert await publisher.depth(queues.work) == 2


async def test_dropped_message_is_gone_and_the_others_stay(
    amqp_settings: AmqpSettings, queues: Queues, publisher: Publisher
) -> None:
    await park(publisher, queues, b"1", b"2", error=HiccupError("a"))

    await drop(amqp_settings, queues, lambda message: message.body == b"1")

    assert [each.body for each in await peek(amqp_settings, queues, everything)] == [b"2"]
    assert await publisher.depth(queues.work) == 0


async def test_message_that_killed_its_consumers_says_so(
    amqp_settings: AmqpSettings, queues: Queues, publisher: Publisher
) -> None:
    headers: dict[str, Any] = {ATTEMPT_HEADER: 2, "x-code": "hiccup", "x-reason": "no luck"}
    await publisher.publish(b"poison", queue=queues.work, headers=headers)

    [message] = await parked_by_broker(amqp_settings, queues)

    assert message.code == "delivery_limit"
    assert queues.work in message.reason
    assert "no luck" in message.reason
    assert message.parked_at is not None


async def test_message_that_killed_its_consumers_can_be_replayed(
    amqp_settings: AmqpSettings, queues: Queues, publisher: Publisher
) -> None:
    """RabbitMQ drops what would enter a queue again in whose name it has died."""
    await publisher.publish(b"poison", queue=queues.work)
    await parked_by_broker(amqp_settings, queues)
    attempts: list[int] = []

    async def fail_once(delivery: Delivery) -> str:
        attempts.append(delivery.attempt)
        if delivery.attempt == 1:
            raise HiccupError("no luck")
        return "predicted"

    await replay(amqp_settings, queues, everything)

    assert await consume(amqp_settings, queues, fail_once, until=2) == ["hiccup", "predicted"]
    assert attempts == [1, 2]


async def test_foreign_message_in_the_parking_queue_is_shown(
    amqp_settings: AmqpSettings, queues: Queues, publisher: Publisher
) -> None:
    await publisher.publish(b"\xff", queue=queues.parked, headers={"x-death": "nonsense"})

    [message] = await peek(amqp_settings, queues, everything)
    assert (message.code, message.subject, message.parked_at) == ("unknown", "", None)
