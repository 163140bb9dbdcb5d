"""Entry point of the segmenter; wires its objects."""

import asyncio
from functools import partial

from fastapi import FastAPI

from services.common.adapters.fetched_items import FetchedItems
from services.common.adapters.forgotten import Forgotten
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import open_database
from services.common.adapters.object_store import open_object_store, sibling
from services.common.adapters.page_repository import PageRepository
from services.common.adapters.rabbitmq.consumer import Consumer
from services.common.adapters.rabbitmq.messaging import queue_depth
from services.common.adapters.rabbitmq.retry_policy import OCR_QUEUES, PAGE_QUEUES, DeliveryOutcome
from services.common.runtime.health import health_router
from services.common.runtime.logs import configure_logging
from services.common.runtime.server import http_server, serve_until, stop_on_signals
from services.common.runtime.settings import AmqpSettings, LogSettings, MongoSettings, S3Settings
from services.segmenter.detection import load_detector
from services.segmenter.line_store import LineStore
from services.segmenter.metrics import register_pages
from services.segmenter.settings import SegmenterSettings
from services.segmenter.worker import Worker


async def run(settings: SegmenterSettings) -> None:
    """Segment pages until SIGTERM or SIGINT."""
    stop = stop_on_signals()
    counter = register_pages()
    s3, amqp = S3Settings(), AmqpSettings()

    def count(outcome: DeliveryOutcome, code: str) -> None:
        counter.labels(outcome=outcome, code=code).inc()

    async with open_object_store(s3) as store, open_database(MongoSettings()) as database:
        pages = sibling(store, s3.pages_bucket)
        worker = Worker(
            store=pages,
            lines=LineStore(
                store, ImageRepository(database.images), text_layer=settings.text_layer
            ),
            pages=PageRepository(database.pages),
            items=FetchedItems(database.fetches),
            forgotten=Forgotten(database.forgotten),
            detector=load_detector(longest_side=settings.longest_side),
            waiting=partial(queue_depth, amqp, OCR_QUEUES.work),
            settings=settings,
        )
        checks = {"minio": pages.check, "mongodb": database.check}
        consumer = Consumer(
            amqp,
            PAGE_QUEUES,
            worker.handle,
            prefetch=settings.prefetch,
            checks=checks,
            on_settled=count,
        )
        app = FastAPI(title="DocReco segmenter", openapi_url=None)
        app.include_router(health_router(ready={**checks, "rabbitmq": consumer.check}))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run(stop, drain_seconds=settings.drain_seconds))
            server = http_server(app, host=settings.host, port=settings.port)
            tasks.create_task(serve_until(stop, server))


if __name__ == "__main__":
    configure_logging(LogSettings(), service="segmenter")
    asyncio.run(run(SegmenterSettings()))
