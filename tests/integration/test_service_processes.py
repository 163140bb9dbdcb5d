"""The consumer and the reconciler as processes: they drain, say what is wrong, and stop."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aiohttp import ClientError, ClientSession, web

from infra.local.ports import pick_free_ports
from services.common.adapters.mongo import Database, open_database
from services.common.adapters.object_store import ObjectStore, open_object_store
from services.common.adapters.rabbitmq.messaging import Publisher, open_publisher
from services.common.adapters.rabbitmq.retry_policy import (
    FETCH_QUEUES,
    OCR_QUEUES,
    PAGE_QUEUES,
    REPREDICT_QUEUES,
)
from services.common.adapters.synthetic_events import sequencer_at, stored_notification
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from services.consumer.documents import HANDLED
from tests.support.ocr_api import ScriptedOcrApi, prediction, scripted_ocr_api
from tests.support.servers import environment_of
from tests.support.started import parse
from tests.support.waiting import deadline, eventually

ROOT = Path(__file__).parents[2]


@dataclass
class Site:
    """Resources of the processes: a bucket, a database and a virtual host of this test."""

    store: ObjectStore
    database: Database
    publisher: Publisher
    ocr_api: ScriptedOcrApi
    environment: dict[str, str]

    async def upload(self, key: str) -> None:
        await self.store.write(key, b"image", content_type="image/png", metadata={})

    async def notify(self, key: str) -> None:
        async for info in self.store.list():
            if info.key == key:
                sequencer = sequencer_at(info.stored_at)
                body = stored_notification(self.store.bucket, info, sequencer=sequencer)
                await self.publisher.publish(body, queue=OCR_QUEUES.work)

    async def depth(self) -> int:
        return await self.publisher.depth(OCR_QUEUES.work)


@pytest.fixture
async def site(
    s3_settings: S3Settings, mongo_settings: MongoSettings, private_amqp_settings: AmqpSettings
) -> AsyncIterator[Site]:
    queues = {OCR_QUEUES.work, *OCR_QUEUES.delays, OCR_QUEUES.parked, REPREDICT_QUEUES.work}
    connection = await aio_pika.connect(str(private_amqp_settings.url))
    async with connection, connection.channel() as channel:
        for queue in queues | {FETCH_QUEUES.parked, PAGE_QUEUES.work, PAGE_QUEUES.parked}:
            await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"})
    async with (
        open_object_store(s3_settings) as store,
        open_database(mongo_settings) as database,
        open_publisher(private_amqp_settings) as publisher,
        scripted_ocr_api() as ocr_api,
    ):
        for bucket in (store.bucket, s3_settings.pages_bucket):
            await store.client.create_bucket(Bucket=bucket)
        environment = environment_of(s3_settings, mongo_settings, private_amqp_settings)
        environment["CONSUMER_OCR_URL"] = str(ocr_api.url)
        yield Site(store, database, publisher, ocr_api, environment)


@dataclass
class Service:
    """A running process and its health routes."""

    process: Process
    session: ClientSession

    async def readiness(self) -> dict[str, str] | None:
        """Return the checks of /readyz; None while the port is closed."""
        try:
            async with self.session.get("/readyz") as response:
                return dict((await response.json())["checks"])
        except ClientError:
            return None

    async def is_ready(self) -> bool:
        checks = await self.readiness()
        return checks is not None and set(checks.values()) == {"ok"}

    async def metrics(self) -> str:
        async with self.session.get("/metrics") as response:
            return await response.text()

    async def stopped(self) -> int:
        """Send SIGTERM; return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        async with deadline():
            return await self.process.wait()


@asynccontextmanager
async def running(name: str, environment: dict[str, str], **more: str) -> AsyncIterator[Service]:
    """Run a service on a free port for the length of an ``async with`` block."""
    port = pick_free_ports().consumer_port
    variables = {**os.environ, **environment, f"{name.upper()}_PORT": str(port), **more}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"services.{name}.main"),
        cwd=ROOT,
        env=variables,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with ClientSession(f"http://127.0.0.1:{port}") as session:
            yield Service(process, session)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class Gate:
    """Holds every image until it is opened."""

    def __init__(self, api: ScriptedOcrApi) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        api.answer = self._answer

    async def _answer(self, _: bytes) -> web.Response:
        self.entered.set()
        await self.open.wait()
        return web.json_response(prediction())


async def test_sigterm_finishes_current_work_and_takes_no_more(site: Site) -> None:
    gate = Gate(site.ocr_api)
    await site.upload("a.png")
    await site.notify("a.png")
    async with running("consumer", site.environment) as consumer:
        async with deadline():
            await gate.entered.wait()
        stopping = asyncio.create_task(consumer.stopped())
        await site.upload("b.png")

        async def is_draining() -> bool:
            checks = await consumer.readiness()
            return checks is None or checks["rabbitmq"] != "ok"

        await eventually(is_draining)
        await site.notify("b.png")
        gate.open.set()
        assert await stopping == 0

    assert await site.database.images.count({"status": "predicted"}) == 1
    assert await site.depth() == 1


async def test_sigterm_leaves_unfinished_work_in_the_queue(site: Site) -> None:
    gate = Gate(site.ocr_api)
    await site.upload("a.png")
    await site.notify("a.png")
    async with running("consumer", site.environment, CONSUMER_DRAIN_SECONDS="0.5") as consumer:
        async with deadline():
            await gate.entered.wait()
        assert await consumer.stopped() == 0
    gate.open.set()

    async def is_back() -> bool:
        return await site.depth() == 1

    await eventually(is_back)
    assert await site.database.images.count({}) == 0


async def test_readiness_names_what_is_missing_and_liveness_stays(site: Site) -> None:
    async with running("consumer", site.environment) as consumer:
        await eventually(consumer.is_ready)
        site.ocr_api.is_ready = False

        checks: dict[str, Any] = await consumer.readiness() or {}

        assert {name for name, said in checks.items() if said != "ok"} == {"ocr-api"}
        async with consumer.session.get("/livez") as response:
            assert response.status == 200


async def test_settlements_are_counted_from_zero(site: Site) -> None:
    async with running("consumer", site.environment) as consumer:
        await eventually(consumer.is_ready)
        shown = parse(await consumer.metrics()).series

    counted = {
        (each.labels["outcome"], each.labels["code"]): each.value
        for each in shown
        if each.metric == "consumer_deliveries_total"
    }
    assert set(counted.values()) == {0.0}
    assert {("acked", code) for code in HANDLED} <= counted.keys()
    assert {("retried", "fetch_not_found"), ("parked", "foreign_event")} <= counted.keys()


async def test_reconciler_makes_a_pass_at_once_and_reports_it(site: Site) -> None:
    await site.upload("a.png")
    annotated = {
        "_id": f"{site.store.bucket}/annotated.png",
        "bucket": site.store.bucket,
        "key": "annotated.png",
        "sha256": "0" * 64,
        "status": "predicted",
        "prediction": {"text": "abcx", "score": 0.9, "engine": "fake", "model_version": "1"},
        "annotation": {"text": "abcd", "quality": "ok", "by": "ada"},
    }
    await site.database.images.insert(annotated)
    async with running(
        "reconciler",
        site.environment,
        RECONCILER_MIN_AGE_SECONDS="0",
        RECONCILER_INTERVAL_SECONDS="1",
    ) as reconciler:

        async def has_queued() -> bool:
            return await site.depth() >= 1

        await eventually(reconciler.is_ready)
        await eventually(has_queued)

        async def has_reported() -> bool:
            metrics = await reconciler.metrics()
            counted = 'reconciler_annotated_cer{engine="fake",model_version="1"} 0.25'
            return 'reconciler_objects{state="missing"} 1.0' in metrics and counted in metrics

        await eventually(has_reported)
        assert "reconciler_last_success_timestamp_seconds 1" in await reconciler.metrics()
        assert await reconciler.stopped() == 0


async def test_reconciler_outlives_a_server_that_is_missing(site: Site) -> None:
    nowhere = {**site.environment, "AMQP_URL": "amqp://admin:admin@127.0.0.1:9/"}
    async with running("reconciler", nowhere) as reconciler:

        async def has_failed() -> bool:
            try:
                return 'reconciler_passes_total{outcome="failed"} 1.0' in await reconciler.metrics()
            except ClientError:
                return False

        await eventually(has_failed)
        checks = await reconciler.readiness()
        assert checks is not None
        assert checks["minio"] == "ok"
        assert checks["rabbitmq"].startswith("BrokerUnavailableError")
        assert await reconciler.stopped() == 0
