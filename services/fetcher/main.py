"""Wire and run the fetcher."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI

from services.common.adapters.forgotten import Forgotten
from services.common.adapters.mongo import Database, open_database
from services.common.adapters.object_store import ObjectStore, open_object_store, sibling
from services.common.adapters.rabbitmq.consumer import Consumer
from services.common.adapters.rabbitmq.retry_policy import FETCH_QUEUES
from services.common.domain.redaction import Redactor
from services.common.download.client import Downloader, open_downloader
from services.common.download.settings import DownloadSettings
from services.common.runtime.health import Check, running
from services.common.runtime.logs import configure_logging
from services.common.runtime.server import http_server, serve_until, stop_on_signals
from services.common.runtime.settings import AmqpSettings, LogSettings, MongoSettings, S3Settings
from services.fetcher.api import AppState, build_app
from services.fetcher.batches.dispatcher import Dispatcher, FairShare
from services.fetcher.batches.item_repository import ItemRepository
from services.fetcher.batches.pages import Clearing, Counting, Expander, ListPages
from services.fetcher.batches.references import References
from services.fetcher.batches.repository import BatchRepository, Cancellations
from services.fetcher.batches.service import Batches
from services.fetcher.batches.submissions import Submissions
from services.fetcher.images import ImageWriter
from services.fetcher.metrics import DOWNLOADS
from services.fetcher.politeness.host import HostRepository
from services.fetcher.politeness.scheduler import HostScheduler, SlotLimits
from services.fetcher.politeness.source import ThrottledDownloader
from services.fetcher.settings import FetcherSettings
from services.fetcher.sources.archives.settings import ArchiveSettings
from services.fetcher.sources.archives.source import ArchiveSource, open_archives
from services.fetcher.sources.openings import Openings
from services.fetcher.sources.sent import ListLimits
from services.fetcher.sources.spool import Spool
from services.fetcher.sources.submitted import SubmittedFiles
from services.fetcher.worker import Worker

PARTITION_PREFETCH = 128
"""Prefetch per partition: enough that hosts can alternate."""


@dataclass(frozen=True)
class Configuration:
    """All settings of this service."""

    fetcher: FetcherSettings = field(default_factory=FetcherSettings)
    downloads: DownloadSettings = field(default_factory=DownloadSettings)
    archives: ArchiveSettings = field(default_factory=ArchiveSettings)
    s3: S3Settings = field(default_factory=S3Settings)
    amqp: AmqpSettings = field(default_factory=AmqpSettings)
    mongo: MongoSettings = field(default_factory=MongoSettings)


@dataclass(frozen=True)
class _Opened:
    """Resources of the running service."""

    store: ObjectStore
    database: Database
    source: Downloader
    members: ArchiveSource
    spool: Spool
    files: SubmittedFiles


@asynccontextmanager
async def _open(config: Configuration, limits: SlotLimits) -> AsyncIterator[_Opened]:
    spool, most = Spool(config.archives.max_spool_bytes), config.downloads.max_item_bytes
    async with (
        open_object_store(config.s3) as store,
        open_database(config.mongo) as database,
        open_downloader(config.downloads, connections=limits.in_all, metrics=DOWNLOADS) as source,
        open_archives(
            files := SubmittedFiles(
                source, sibling(store, config.s3.submitted_bucket), max_item_bytes=most
            ),
            config.archives,
            spool,
            max_item_bytes=most,
            timeout_seconds=config.fetcher.list_timeout_seconds,
        ) as members,
    ):
        yield _Opened(store, database, source, members, spool, files)


@dataclass(frozen=True)
class Shared:
    """Objects that several parts use, one of each: a repository gathers concurrent requests."""

    redact: Callable[[str], str]
    batches: BatchRepository
    items: ItemRepository
    pages: ListPages
    hosts: HostRepository
    counting: Counting
    expander: Expander
    wake: asyncio.Event
    """Set when there is something to dispatch."""


def make_shared(downloads: DownloadSettings, database: Database) -> Shared:
    """Build the objects that several parts use."""
    redact = Redactor(downloads.redact_query).redact
    batches = BatchRepository(database.batches)
    items, pages = ItemRepository(database.fetches, redact), ListPages(database.lists)
    return Shared(
        redact,
        batches,
        items,
        pages,
        hosts=HostRepository(database.hosts),
        counting=Counting(batches, items, pages),
        expander=Expander(pages, items),
        wake=asyncio.Event(),
    )


async def run(config: Configuration, stop: asyncio.Event) -> None:
    """Serve, dispatch and download until ``stop`` is set; then shut down gracefully."""
    settings = config.fetcher
    limits = SlotLimits(settings.concurrency, settings.host_concurrency, settings.host_rate)
    async with _open(config, limits) as opened:
        shared = make_shared(config.downloads, opened.database)
        cancellations = Cancellations(shared.batches)
        clearing = Clearing(
            shared.batches, shared.pages, kept_seconds=settings.unfinished_kept_seconds
        )
        scheduler = HostScheduler(limits, shared.hosts)
        consumer = _consumer(config, opened, shared, scheduler, cancellations)
        async with asyncio.TaskGroup() as tasks:
            consuming = consumer.run(stop, drain_seconds=settings.drain_seconds)
            parts: dict[str, Coroutine[Any, Any, None]] = {
                "worker": consuming,
                "dispatcher": make_dispatcher(config.amqp, shared).run(stop),
                "cancellations": cancellations.run(stop),
                "clearing": clearing.run(stop),
            }
            alive = {name: running(tasks.create_task(part)) for name, part in parts.items()}
            ready = {**_checks(opened), "rabbitmq": consumer.check}
            app = _app(config, opened, shared, ready=ready, alive=alive, stop=stop)
            server = http_server(app, host=settings.host, port=settings.port)
            tasks.create_task(serve_until(stop, server))


def _checks(opened: _Opened) -> dict[str, Check]:
    return {"minio": opened.store.check, "mongodb": opened.database.check}


def _consumer(
    config: Configuration,
    opened: _Opened,
    shared: Shared,
    scheduler: HostScheduler,
    cancellations: Cancellations,
) -> Consumer:
    pages = sibling(opened.store, config.s3.pages_bucket)
    forgotten = Forgotten(opened.database.forgotten)
    worker = Worker(
        source=ThrottledDownloader(
            opened.source, scheduler, members=opened.members, files=opened.files
        ),
        scheduler=scheduler,
        writer=ImageWriter(opened.store, pages, shared.items, forgotten, shared.redact),
        items=shared.items,
        cancellations=cancellations,
        max_attempts=config.fetcher.max_attempts,
        max_page_bytes=config.downloads.max_page_bytes,
    )
    return Consumer(
        config.amqp,
        FETCH_QUEUES,
        worker.handle,
        prefetch=PARTITION_PREFETCH,
        checks=_checks(opened),
        on_takeover=scheduler.reload,
    )


def make_dispatcher(amqp: AmqpSettings, shared: Shared) -> Dispatcher:
    """Return the dispatcher, not connected yet."""
    return Dispatcher(
        amqp,
        FETCH_QUEUES,
        batches=shared.batches,
        items=shared.items,
        expander=shared.expander,
        fair_share=FairShare(shared.counting, shared.items),
        wake=shared.wake,
    )


def _app(
    config: Configuration,
    opened: _Opened,
    shared: Shared,
    *,
    ready: dict[str, Check],
    alive: dict[str, Check],
    stop: asyncio.Event,
) -> FastAPI:
    settings = config.fetcher
    openings = Openings(
        opened.spool,
        lists=ListLimits(settings.max_list_bytes, settings.max_json_bytes, settings.max_list_rows),
        archives=config.archives,
        files=opened.files,
        max_item_bytes=config.downloads.max_item_bytes,
        max_page_bytes=config.downloads.max_page_bytes,
    )
    references = References(
        opened.source, opened.spool, openings, timeout_seconds=settings.list_timeout_seconds
    )
    served = AppState(
        batches=Batches(
            shared.batches,
            shared.items,
            shared.pages,
            counting=shared.counting,
            expander=shared.expander,
            wake=shared.wake,
        ),
        submissions=Submissions(shared.batches, shared.pages, shared.wake),
        openings=openings,
        references=references,
        spool=opened.spool,
        host_states=shared.hosts,
        stop=stop,
    )
    return build_app(settings, served, ready=ready, alive=alive)


async def main() -> None:
    """Run until SIGTERM or SIGINT."""
    await run(Configuration(), stop_on_signals())


if __name__ == "__main__":
    configure_logging(LogSettings(), service="fetcher")
    asyncio.run(main())
