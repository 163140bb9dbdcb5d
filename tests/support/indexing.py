"""A consumer in the test's own process, on queues of the test alone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import aio_pika

from services.common.adapters.fetched_items import FetchedItems
from services.common.adapters.forgotten import Forgotten, Tombstones
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Database, Document
from services.common.adapters.object_store import ObjectStore
from services.common.adapters.rabbitmq.consumer import Consumer
from services.common.adapters.rabbitmq.retry_policy import (
    DeliveryOutcome,
    Queues,
    possible_settlements,
)
from services.common.domain.image import ImageDocument
from services.common.domain.provenance import Provenance, to_metadata
from services.common.runtime.settings import AmqpSettings
from services.consumer.documents import HANDLED
from services.consumer.ocr_client import OcrClient, open_ocr_client
from services.consumer.settings import ConsumerSettings
from services.consumer.shadow import ShadowReader
from services.consumer.worker import Worker
from tests.support.ocr_api import ScriptedOcrApi
from tests.support.waiting import DEADLINE_SECONDS, eventually, until

QUORUM = {"x-queue-type": "quorum"}
OCR_SECONDS = DEADLINE_SECONDS

IMAGE = b"any bytes: the scripted API does not decode them"


@asynccontextmanager
async def open_queues(settings: AmqpSettings, *, limit: int = 100) -> AsyncIterator[Queues]:
    """Declare a work queue, a short delay and a parking queue; delete them afterwards."""
    name = f"test-{uuid4()}"
    queues = Queues(name, (f"{name}.soon",), f"{name}.parked")
    connection = await aio_pika.connect(str(settings.url))
    async with connection, connection.channel() as channel:
        work: dict[str, Any] = {
            **QUORUM,
            "x-delivery-limit": limit,
            "x-overflow": "reject-publish",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": queues.parked,
            "x-dead-letter-strategy": "at-least-once",
        }
        back: dict[str, Any] = {
            **QUORUM,
            "x-message-ttl": 50,
            "x-overflow": "reject-publish",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": name,
            "x-dead-letter-strategy": "at-least-once",
        }
        await channel.declare_queue(queues.parked, durable=True, arguments=dict(QUORUM))
        await channel.declare_queue(queues.work, durable=True, arguments=work)
        await channel.declare_queue(queues.delays[0], durable=True, arguments=back)
        try:
            yield queues
        finally:
            for queue in (queues.work, *queues.delays, queues.parked):
                await channel.queue_delete(queue)


@asynccontextmanager
async def open_event_queues(settings: AmqpSettings) -> AsyncIterator[Queues]:
    """Declare queues of a test whose work is what MinIO says of every bucket."""
    async with open_queues(settings) as queues:
        connection = await aio_pika.connect(str(settings.url))
        async with connection, connection.channel() as channel:
            # MinIO makes it with its first event, which may be one of this test
            await channel.declare_exchange("raw.events", "topic", durable=True)
            await (await channel.get_queue(queues.work)).bind("raw.events", "raw")
        yield queues


class Settlements:
    """Outcome of each delivery."""

    def __init__(self) -> None:
        self.settled: list[tuple[DeliveryOutcome, str]] = []

    def note(self, outcome: DeliveryOutcome, code: str) -> None:
        self.settled.append((outcome, code))

    @property
    def codes(self) -> list[str]:
        return [code for _, code in self.settled]

    async def until(self, count: int) -> list[str]:
        await until(lambda: len(self.settled) >= count)
        return self.codes


@asynccontextmanager
async def open_worker(
    ocr_api: ScriptedOcrApi, *, store: ObjectStore, database: Database
) -> AsyncIterator[Worker]:
    """Make what handles deliveries, for tests that hand them over themselves."""
    async with open_ocr(ocr_api) as ocr:
        yield make_worker(ocr, store=store, database=database)


def open_ocr(ocr_api: ScriptedOcrApi) -> AbstractAsyncContextManager[OcrClient]:
    return open_ocr_client(ConsumerSettings(ocr_url=ocr_api.url, ocr_timeout_seconds=OCR_SECONDS))


def make_worker(
    ocr: OcrClient,
    *,
    store: ObjectStore,
    database: Database,
    on_read: Callable[[ImageDocument], None] = lambda _: None,
) -> Worker:
    forgotten = Forgotten(database.forgotten)
    tombstones = Tombstones(database.tombstones, timedelta(days=30), forgotten)
    return Worker(
        store=store,
        recogniser=ocr,
        images=ImageRepository(database.images, tombstones),
        fetches=FetchedItems(database.fetches),
        forgotten=forgotten,
        max_object_bytes=100_000,
        on_read=on_read,
    )


@asynccontextmanager
async def indexing(
    ocr_api: ScriptedOcrApi,
    *,
    store: ObjectStore,
    database: Database,
    amqp: AmqpSettings,
    queues: Queues,
    candidate: ScriptedOcrApi | None = None,
) -> AsyncIterator[Settlements]:
    """Consume for the length of an ``async with`` block; a candidate reads every image, too."""
    settlements, stop = Settlements(), asyncio.Event()
    async with open_ocr(ocr_api) as ocr, open_ocr(candidate or ocr_api) as other:
        shadow = ShadowReader(
            store=store,
            recogniser=other,
            images=ImageRepository(database.images),
            rate=1.0 if candidate else 0.0,
            max_object_bytes=100_000,
            is_idle=lambda: consumer.is_idle,
        )
        worker = make_worker(ocr, store=store, database=database, on_read=shadow.offer)
        consumer = Consumer(
            amqp,
            queues,
            worker.handle,
            prefetch=4,
            checks={"ocr-api": ocr.check, "mongodb": database.check, "minio": store.check},
            on_settled=settlements.note,
        )
        running = asyncio.gather(consumer.run(stop, drain_seconds=5), shadow.run(stop))
        try:
            yield settlements
        finally:
            stop.set()
            await running
    # Each is a series that is there from the start: of others an alert would miss the first
    assert set(settlements.settled) <= set(possible_settlements(HANDLED))


@dataclass
class Indexed:
    """A bucket, and the documents of its images."""

    store: ObjectStore
    database: Database

    async def document(self, key: str, **fields: object) -> Document:
        where = {"_id": f"{self.store.bucket}/{key}", **fields}
        return await eventually(lambda: self.database.images.find_one(where))


@dataclass
class Pipeline(Indexed):
    """A bucket that notifies, and a running consumer."""

    settlements: Settlements

    @property
    def settled(self) -> list[tuple[DeliveryOutcome, str]]:
        # foreign events are those of other tests: all share MinIO's exchange
        return [each for each in self.settlements.settled if each[1] != "foreign_event"]

    async def until_settled(self, code: str, count: int = 1) -> None:
        await until(lambda: [each for _, each in self.settled].count(code) >= count)

    async def upload(
        self, key: str, content: bytes = IMAGE, provenance: Provenance | None = None
    ) -> str:
        metadata = to_metadata(provenance or Provenance())
        return await self.store.write(key, content, content_type="image/png", metadata=metadata)


Start = Callable[[], Awaitable[Pipeline]]
