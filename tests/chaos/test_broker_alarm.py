"""RabbitMQ without disk reads nothing from a connection that publishes; the rest goes on."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import AmqpDsn

from infra.local import servers
from infra.local.locate import locate_epmd, locate_rabbitmq
from infra.local.ports import pick_free_ports
from infra.local.settings import LocalSettings
from infra.local.supervisor import Program, Supervisor
from services.common.adapters.rabbitmq import messaging
from services.common.adapters.rabbitmq.consumer import Consumer
from services.common.adapters.rabbitmq.messaging import open_publisher
from services.common.adapters.rabbitmq.retry_policy import Delivery, DeliveryOutcome
from services.common.runtime.settings import AmqpSettings
from services.consumer.ocr_client import OcrFailedError
from tests.support.indexing import open_queues
from tests.support.waiting import DEADLINE_SECONDS, until

GOOD = 12
MORE_THAN_THERE_IS = str(10**15)


class Broker:
    """A RabbitMQ of the test alone: an alarm is of the whole server."""

    def __init__(self, program: Program, home: servers.Home) -> None:
        self._program = program
        self.settings = AmqpSettings(url=AmqpDsn(home.amqp_url))

    def leave_disk(self, least_bytes: str) -> None:
        """Set how much of the disk must be free."""
        control = str(Path(self._program.argv[0]).with_name("rabbitmqctl"))
        subprocess.run(  # noqa: S603
            [control, "-n", servers.RABBITMQ_NODE, "set_disk_free_limit", least_bytes],
            env=dict(self._program.env),
            check=True,
            capture_output=True,
            timeout=DEADLINE_SECONDS,
        )


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    rabbitmq, epmd = locate_rabbitmq(), locate_epmd()
    assert rabbitmq is not None
    assert epmd is not None
    home = servers.Home(LocalSettings(folder=tmp_path), pick_free_ports())
    program = servers.rabbitmq(rabbitmq, home)
    async with Supervisor(lambda _: None) as supervisor:
        await supervisor.start(servers.epmd(epmd, home))
        await supervisor.start(program)
        yield Broker(program, home)


async def test_copy_that_waits_for_disk_holds_up_no_other_delivery(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messaging, "CONFIRM_TIMEOUT_SECONDS", 0.5)  # the alarm lasts longer
    stop, handled, settled = asyncio.Event(), list[bytes](), list[DeliveryOutcome]()

    async def handle(delivery: Delivery) -> str:
        handled.append(delivery.body)
        await asyncio.sleep(0.5)
        if delivery.body == b"bad" and delivery.attempt == 1:
            raise OcrFailedError("its copy has to wait")
        return "done"

    async with open_queues(broker.settings) as queues:
        async with open_publisher(broker.settings) as publisher:
            for body in (b"bad", *[b"good"] * GOOD):
                await publisher.publish(body, queue=queues.work)
        await asyncio.to_thread(broker.leave_disk, MORE_THAN_THERE_IS)
        consumer = Consumer(
            broker.settings,
            queues,
            handle,
            prefetch=3,
            checks={},
            on_settled=lambda outcome, _: settled.append(outcome),
        )
        running = asyncio.create_task(consumer.run(stop, drain_seconds=0))
        try:
            await until(lambda: handled.count(b"good") >= GOOD and len(settled) >= GOOD)
            await consumer.check()
            assert settled == [DeliveryOutcome.ACKED] * GOOD
            await asyncio.to_thread(broker.leave_disk, "1MB")
            await until(lambda: len(settled) == GOOD + 2)
        finally:
            stop.set()
            await running

    assert settled[GOOD:] == [DeliveryOutcome.RETRIED, DeliveryOutcome.ACKED]
    assert sorted(handled) == [b"bad"] * 2 + [b"good"] * GOOD
