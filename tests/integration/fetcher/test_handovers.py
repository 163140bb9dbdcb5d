"""A job that only waits while its partition changes hands is not taken for one that kills."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import pytest

from services.common.adapters.rabbitmq import partitions
from services.common.adapters.rabbitmq.consumer import Consumer
from services.common.adapters.rabbitmq.messaging import Channel, Message, connect, open_publisher
from services.common.adapters.rabbitmq.partitions import Feed, Partition, Work
from services.common.adapters.rabbitmq.retry_policy import (
    DELIVERY_COUNT_HEADER,
    FETCH_QUEUES,
    RENEWALS_HEADER,
    RENEWED_RETURNS,
    Delivery,
    Handler,
)
from services.fetcher.jobs import FetchJob
from tests.support.fetcher import DELIVERY_LIMIT, Surroundings
from tests.support.waiting import deadline

JOB = FetchJob("b/0000000001", "b", "http://x.test/")


async def test_handovers_of_a_job_reset_its_delivery_count(surroundings: Surroundings) -> None:
    held: asyncio.Queue[Message] = asyncio.Queue()
    lost: list[str] = []
    takeovers: list[str] = []

    def hold(message: Message) -> Work:
        work = Work()
        work.task = asyncio.create_task(_wait_for_ever())
        held.put_nowait(message)
        return work

    async with (
        deadline(),
        connect(surroundings.amqp) as connection,
        open_publisher(surroundings.amqp) as publisher,
    ):
        name = FETCH_QUEUES.partitions[0]
        await publisher.publish(JOB.body(), queue=name, headers=JOB.headers())
        feed = Feed(hold, lost.append, lambda: takeovers.append(name), prefetch=1)
        partition = Partition(name, connection, feed)
        await partition.subscribe()
        for returns in range(RENEWED_RETURNS):
            message = await held.get()
            assert message.headers.get(DELIVERY_COUNT_HEADER, 0) == returns
            await partition.hand_over()
        await held.get()
        partition.leave(at_once=True)

    delivery = await consumed(surroundings)
    assert delivery.body == JOB.body()
    assert delivery.headers[RENEWALS_HEADER] == 1
    assert DELIVERY_COUNT_HEADER not in delivery.headers
    assert lost == []
    assert len(takeovers) == RENEWED_RETURNS + 1


async def test_stop_is_not_held_up_by_a_cancellation_that_was_lost(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, lost = asyncio.Event(), asyncio.Event()

    async def answer_meanwhile(_: Channel, __: str) -> int:
        """Lose the first cancellation, as ``wait_for`` of Python 3.11 may."""
        if not asked.is_set():
            asked.set()
            with suppress(asyncio.CancelledError):
                await _wait_for_ever()
            lost.set()
        return 1

    monkeypatch.setattr(partitions, "consumers_of", answer_meanwhile)
    monkeypatch.setattr(partitions, "SHARE_EVERY_SECONDS", 0.01)
    stop = asyncio.Event()
    consumer = make_consumer(surroundings, handle=_done)
    async with deadline(), asyncio.TaskGroup() as tasks:
        tasks.create_task(consumer.run(stop))
        await asked.wait()
        stop.set()
    assert lost.is_set()


async def consumed(surroundings: Surroundings) -> Delivery:
    """Return the first delivery that a consumer's handler is given."""
    stop = asyncio.Event()
    given: list[Delivery] = []

    async def handle(delivery: Delivery) -> str:
        given.append(delivery)
        stop.set()
        return "done"

    async with deadline():
        await make_consumer(surroundings, handle=handle).run(stop)
    return given[0]


def make_consumer(surroundings: Surroundings, *, handle: Handler) -> Consumer:
    return Consumer(
        surroundings.amqp,
        FETCH_QUEUES,
        handle,
        prefetch=1,
        checks={},
        on_settled=lambda *_: None,
    )


async def _done(_: Delivery) -> str:
    return "done"


async def _wait_for_ever() -> None:
    await asyncio.Event().wait()


def test_limit_of_rabbitmq_leaves_room_for_that() -> None:
    definitions = json.loads(Path("rabbitmq/definitions.json").read_text())
    limits = {
        each["arguments"]["x-delivery-limit"]
        for each in definitions["queues"]
        if each["name"] in FETCH_QUEUES.partitions
    }

    assert limits == {DELIVERY_LIMIT}
    assert RENEWED_RETURNS * 2 <= DELIVERY_LIMIT
