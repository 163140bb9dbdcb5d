"""Wire and run the review page."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from services.common.adapters.fetcher_api import FetcherClient, open_fetcher
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Database, open_database
from services.common.adapters.object_store import ObjectStore, open_object_store, sibling
from services.common.adapters.page_repository import PageRepository
from services.common.adapters.prometheus import Prometheus, open_prometheus
from services.common.adapters.rabbitmq.retry_policy import (
    FETCH_QUEUES,
    OCR_QUEUES,
    PAGE_QUEUES,
    Queues,
)
from services.common.domain.image import ImageDocument
from services.common.runtime.health import running
from services.common.runtime.logs import configure_logging
from services.common.runtime.server import http_server, serve_until, stop_on_signals
from services.common.runtime.settings import AmqpSettings, LogSettings, MongoSettings, S3Settings
from services.label_studio.client import open_label_studio
from services.label_studio.settings import LabelStudioSettings
from services.review.access import AppState
from services.review.api import build_app
from services.review.label_studio import Inbox, webhook_router
from services.review.leases import EndedSessions, Leases
from services.review.models import watch_loop
from services.review.overview import TIMEOUT_SECONDS, Overview, OverviewSources, open_overview
from services.review.quality import QualityCounter
from services.review.queue import Queue
from services.review.refreshed_answer import RefreshedAnswer
from services.review.sessions import PasswordGuesses, Sessions
from services.review.settings import ReviewSettings
from services.review.suspects import SuspectList, suggest
from services.review.templating import Templates

SECONDS_OF_AN_HOUR = 3600.0
CONVERSIONS = 2
WRONG_PASSWORDS_PER_MINUTE = 10
WRONG_PASSWORDS_OF_ALL = 100


@dataclass(frozen=True)
class Configuration:
    """All settings of this service."""

    review: ReviewSettings = field(default_factory=ReviewSettings)
    s3: S3Settings = field(default_factory=S3Settings)
    amqp: AmqpSettings = field(default_factory=AmqpSettings)
    mongo: MongoSettings = field(default_factory=MongoSettings)
    ocr_queues: Queues = OCR_QUEUES
    label_studio: LabelStudioSettings = field(default_factory=LabelStudioSettings)
    fetch_queues: Queues = FETCH_QUEUES
    page_queues: Queues = PAGE_QUEUES


async def run(config: Configuration, stop: asyncio.Event) -> None:
    """Serve until ``stop`` is set."""
    settings = config.review
    async with (
        open_object_store(config.s3) as store,
        open_database(config.mongo) as database,
        open_fetcher(
            settings.fetcher_url,
            token=settings.fetcher_token,
            timeout_seconds=settings.fetcher_timeout_seconds,
        ) as fetcher,
        _open_inbox(config.label_studio, database) as inbox,
        _open_prometheus(settings) as prometheus,
        open_overview(_sources(config, store, database, fetcher, prometheus)) as overview,
        aclosing(
            RefreshedAnswer(partial(suggest, ImageRepository(database.images)))
        ) as suggestions,
        asyncio.TaskGroup() as tasks,
    ):
        quality = QualityCounter(
            ImageRepository(database.images), refresh_seconds=settings.quality_refresh_seconds
        )
        queue = _queue(settings, database, suggestions)
        state = _app_state(
            config, store, database, fetcher, quality=quality, queue=queue, overview=overview
        )
        alive = {
            "quality": running(tasks.create_task(quality.run(stop))),
            "suspects": running(tasks.create_task(queue.suspects.run(stop))),
            "models": running(tasks.create_task(watch_loop(settings.models, stop))),
        }
        webhooks = None
        if inbox is not None and (secret := config.label_studio.webhook_secret) is not None:
            alive["label-studio"] = running(tasks.create_task(inbox.run(stop)))
            webhooks = webhook_router(inbox, secret)
        app = build_app(
            state,
            ready={"minio": store.check, "mongodb": database.check},
            alive=alive,
            webhooks=webhooks,
        )
        server = http_server(app, host=settings.host, port=settings.port)
        tasks.create_task(serve_until(stop, server))


def _queue(
    settings: ReviewSettings,
    database: Database,
    suggestions: RefreshedAnswer[dict[str, ImageDocument]],
) -> Queue:
    images = ImageRepository(database.images)
    return Queue(
        images,
        Leases(database.review_leases, seconds=settings.lease_seconds),
        SuspectList(images, refresh_seconds=settings.quality_refresh_seconds),
        suggestions,
        second_share=settings.second_share,
        reviewers=settings.reviewer_names,
    )


def _app_state(
    config: Configuration,
    store: ObjectStore,
    database: Database,
    fetcher: FetcherClient,
    *,
    quality: QualityCounter,
    queue: Queue,
    overview: Overview,
) -> AppState:
    settings, images = config.review, ImageRepository(database.images)
    sessions = Sessions(
        settings.login_password, seconds=settings.session_hours * SECONDS_OF_AN_HOUR
    )
    return AppState(
        settings=settings,
        sessions=sessions,
        templates=Templates(sessions),
        database=database,
        images=images,
        store=store,
        page_documents=PageRepository(database.pages),
        page_store=sibling(store, config.s3.pages_bucket),
        queue=queue,
        quality=quality,
        overview=overview,
        fetcher=fetcher,
        amqp=config.amqp,
        conversions=asyncio.Semaphore(CONVERSIONS),
        guesses=PasswordGuesses(
            of_address=WRONG_PASSWORDS_PER_MINUTE, of_all=WRONG_PASSWORDS_OF_ALL
        ),
        ended=EndedSessions(database.review_leases),
        ocr_queues=config.ocr_queues,
        fetch_queues=config.fetch_queues,
        page_queues=config.page_queues,
    )


def _sources(
    config: Configuration,
    store: ObjectStore,
    database: Database,
    fetcher: FetcherClient,
    prometheus: Prometheus | None,
) -> OverviewSources:
    return OverviewSources(
        images=ImageRepository(database.images),
        pages=database.pages,
        fetcher=fetcher,
        amqp=config.amqp,
        parked={
            OCR_QUEUES.parked: config.ocr_queues.parked,
            FETCH_QUEUES.parked: config.fetch_queues.parked,
        },
        store=store.check,
        prometheus=prometheus,
    )


@asynccontextmanager
async def _open_prometheus(settings: ReviewSettings) -> AsyncIterator[Prometheus | None]:
    """Open a client of Prometheus; None without its URL."""
    if settings.prometheus_url is None:
        yield None
        return
    url, seconds = settings.prometheus_url, TIMEOUT_SECONDS
    async with open_prometheus(url, timeout_seconds=seconds) as prometheus:
        yield prometheus


@asynccontextmanager
async def _open_inbox(
    settings: LabelStudioSettings, database: Database
) -> AsyncIterator[Inbox | None]:
    """Open the reader of webhooks' tasks; None without a webhook secret."""
    if settings.webhook_secret is None:
        yield None
        return
    async with open_label_studio(settings) as studio:
        yield Inbox(studio, database, settings.project)


async def main() -> None:
    """Run until SIGTERM or SIGINT."""
    await run(Configuration(), stop_on_signals())


if __name__ == "__main__":
    configure_logging(LogSettings(), service="review")
    asyncio.run(main())
