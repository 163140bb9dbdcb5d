"""A job that only waits while its partition changes hands is not taken for one that kills."""

import asyncio
import json
from pathlib import Path

import pytest

from services.common.consuming import Consumer
from services.common.messaging import Message, connect, open_publisher
from services.common.partitions import Partition, Work
from services.common.settlement import (
    DELIVERY_COUNT_HEADER,
    FETCH_QUEUES,
    RENEWALS_HEADER,
    RENEWED_RETURNS,
    Delivery,
)
from services.fetcher.jobs import Job
from tests.support.fetcher import DEADLINE_SECONDS, DELIVERY_LIMIT, Surroundings

pytestmark = pytest.mark.integration

JOB = Job("b/0000000001", "b", "http://x.test/")


async def test_job_that_is_handed_over_again_and_again_begins_a_new_count(
    surroundings: Surroundings,
) -> None:
    held: asyncio.Queue[Message] = asyncio.Queue()
    lost: list[str] = []
    takeovers: list[str] = []

    def hold(message: Message) -> Work:
        work = Work()
        work.task = asyncio.create_task(_wait_for_ever())
        held.put_nowait(message)
        return work

    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        connect(surroundings.amqp) as connection,
        open_publisher(surroundings.amqp) as publisher,
    ):
        name = FETCH_QUEUES.partitions[0]
        await publisher.publish(JOB.body(), queue=name, headers=JOB.headers())
        partition = Partition(
            name,
            connection,
            start=hold,
            lost=lost.append,
            taken_over=lambda: takeovers.append(name),
            prefetch=1,
        )
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


async def consumed(surroundings: Surroundings) -> Delivery:
    """Return the first delivery that a consumer's handler is given."""
    stop = asyncio.Event()
    given: list[Delivery] = []

    async def handle(delivery: Delivery) -> str:
        given.append(delivery)
        stop.set()
        return "done"

    consumer = Consumer(
        surroundings.amqp,
        FETCH_QUEUES,
        handle,
        prefetch=1,
        checks={},
        on_settled=lambda *_: None,
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        await consumer.run(stop)
    return given[0]


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
