"""Wire and run the consumer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

from fastapi import FastAPI

from services.common.adapters.fetched_items import FetchedItems
from services.common.adapters.forgotten import Forgotten, Tombstones
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Database, open_database
from services.common.adapters.object_store import ObjectStore, open_object_store
from services.common.adapters.rabbitmq.consumer import Consumer
from services.common.adapters.rabbitmq.retry_policy import (
    OCR_QUEUES,
    REPREDICT_QUEUES,
    DeliveryOutcome,
)
from services.common.runtime.health import health_router
from services.common.runtime.logs import configure_logging
from services.common.runtime.server import http_server, serve_until, stop_on_signals
from services.common.runtime.settings import AmqpSettings, LogSettings, MongoSettings, S3Settings
from services.consumer.metrics import register_deliveries
from services.consumer.ocr_client import Recogniser, open_ocr_client
from services.consumer.settings import ConsumerSettings
from services.consumer.shadow import ShadowReader
from services.consumer.worker import Worker


async def run(settings: ConsumerSettings) -> None:
    """Consume until SIGTERM or SIGINT."""
    stop = stop_on_signals()
    deliveries = register_deliveries()

    def count(outcome: DeliveryOutcome, code: str) -> None:
        deliveries.labels(outcome=outcome, code=code).inc()

    async with (
        open_object_store(S3Settings()) as store,
        open_database(MongoSettings()) as database,
        open_ocr_client(settings) as ocr,
        open_shadow(
            settings, store, database, is_idle=lambda: fresh.is_idle and again.is_idle
        ) as shadow,
    ):
        worker = make_worker(settings, store, database, ocr, shadow)
        checks = {"minio": store.check, "mongodb": database.check, "ocr-api": ocr.check}
        consumer = partial(
            Consumer, AmqpSettings(), handle=worker.handle, checks=checks, on_settled=count
        )
        fresh = consumer(OCR_QUEUES, prefetch=settings.prefetch)
        again = consumer(REPREDICT_QUEUES, prefetch=settings.repredict_prefetch, behind=fresh)
        app = FastAPI(title="DocReco consumer", openapi_url=None)
        app.include_router(health_router(ready={**checks, "rabbitmq": fresh.check}))
        async with asyncio.TaskGroup() as tasks:
            for each in (fresh, again):
                tasks.create_task(each.run(stop, drain_seconds=settings.drain_seconds))
            if shadow is not None:
                tasks.create_task(shadow.run(stop))
            server = http_server(app, host=settings.host, port=settings.port)
            tasks.create_task(serve_until(stop, server))


@asynccontextmanager
async def open_shadow(
    settings: ConsumerSettings,
    store: ObjectStore,
    database: Database,
    *,
    is_idle: Callable[[], bool],
) -> AsyncIterator[ShadowReader | None]:
    """Open what a candidate model reads with; None: it reads no share of the images."""
    if not settings.shadow_rate:
        yield None
        return
    async with open_ocr_client(settings, settings.shadow_url) as candidate:
        yield ShadowReader(
            store=store,
            recogniser=candidate,
            images=ImageRepository(database.images),
            rate=settings.shadow_rate,
            max_object_bytes=settings.max_object_bytes,
            is_idle=is_idle,
        )


def make_worker(
    settings: ConsumerSettings,
    store: ObjectStore,
    database: Database,
    recogniser: Recogniser,
    shadow: ShadowReader | None,
) -> Worker:
    """Build what handles deliveries."""
    forgotten = Forgotten(database.forgotten)
    kept_for = timedelta(days=settings.annotations_kept_days)
    return Worker(
        store=store,
        recogniser=recogniser,
        images=ImageRepository(
            database.images, Tombstones(database.tombstones, kept_for, forgotten)
        ),
        fetches=FetchedItems(database.fetches),
        forgotten=forgotten,
        max_object_bytes=settings.max_object_bytes,
        page_height=settings.page_height,
        on_read=shadow.offer if shadow is not None else lambda _: None,
    )


if __name__ == "__main__":
    configure_logging(LogSettings(), service="consumer")
    asyncio.run(run(ConsumerSettings()))
