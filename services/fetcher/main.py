"""Start the fetcher: the one place where it is wired together."""

import asyncio
from dataclasses import dataclass, field

from services.common.consuming import Consumer
from services.common.download.client import open_downloader
from services.common.download.redaction import Redactor
from services.common.download.settings import DownloadSettings
from services.common.health import Check, running
from services.common.index import open_index
from services.common.logs import configure_logging
from services.common.object_store import open_object_store
from services.common.server import http_server, serve_until, stop_on_signals
from services.common.settings import AmqpSettings, LogSettings, MongoSettings, S3Settings
from services.common.settlement import FETCH_QUEUES, Outcome
from services.fetcher.api import build_app
from services.fetcher.archives.source import open_archives
from services.fetcher.batches import Batches
from services.fetcher.cancellations import Cancellations
from services.fetcher.dispatcher import Dispatcher
from services.fetcher.hosts.source import PoliteSource
from services.fetcher.hosts.turns import TurnLimits, Turns
from services.fetcher.ledger import Ledger
from services.fetcher.lists.expander import Expander
from services.fetcher.lists.pages import Pages
from services.fetcher.references import References
from services.fetcher.settings import ArchiveSettings, FetcherSettings
from services.fetcher.submissions import Submissions
from services.fetcher.upload import ListLimits
from services.fetcher.worker import Worker

PARTITION_PREFETCH = 128
"""Jobs of each partition that wait here for their host's turn: enough that hosts can alternate."""


@dataclass(frozen=True)
class Configuration:
    """All settings of this service."""

    fetcher: FetcherSettings = field(default_factory=FetcherSettings)
    downloads: DownloadSettings = field(default_factory=DownloadSettings)
    archives: ArchiveSettings = field(default_factory=ArchiveSettings)
    s3: S3Settings = field(default_factory=S3Settings)
    amqp: AmqpSettings = field(default_factory=AmqpSettings)
    mongo: MongoSettings = field(default_factory=MongoSettings)


async def run(config: Configuration, stop: asyncio.Event) -> None:
    """Serve, dispatch and download until ``stop`` is set; then finish what is in work."""
    settings, wake = config.fetcher, asyncio.Event()
    limits = TurnLimits(settings.concurrency, settings.host_concurrency, settings.host_rate)
    async with (
        open_object_store(config.s3) as store,
        open_index(config.mongo) as index,
        open_downloader(config.downloads, connections=limits.in_all) as source,
        open_archives(
            source,
            config.archives,
            max_item_bytes=config.downloads.max_item_bytes,
            timeout_seconds=settings.list_timeout_seconds,
        ) as images,
    ):
        ledger = Ledger(index.fetches)
        pages = Pages(index.lists)
        batches = Batches(index.batches, ledger, pages, wake)
        submissions = Submissions(index.batches, pages, wake)
        references = References(
            source,
            submissions,
            lists=ListLimits(settings.max_list_bytes, settings.max_json_bytes),
            archives=config.archives,
            timeout_seconds=settings.list_timeout_seconds,
        )
        turns = Turns(limits)
        cancellations = Cancellations(index.batches)
        worker = Worker(
            source=PoliteSource(images, source.delay, turns),
            turns=turns,
            store=store,
            ledger=ledger,
            cancellations=cancellations,
            redact=Redactor(config.downloads.redact_query).redact,
            max_attempts=settings.max_attempts,
        )
        dispatcher = Dispatcher(
            config.amqp,
            FETCH_QUEUES,
            batches=index.batches,
            ledger=ledger,
            expander=Expander(pages),
            wake=wake,
        )
        checks: dict[str, Check] = {"minio": store.check, "mongodb": index.check}
        consumer = Consumer(
            config.amqp,
            FETCH_QUEUES,
            worker.handle,
            prefetch=PARTITION_PREFETCH,
            checks=checks,
            on_settled=_ignore,
        )
        async with asyncio.TaskGroup() as tasks:
            consuming = tasks.create_task(consumer.run(stop, drain_seconds=settings.drain_seconds))
            dispatching = tasks.create_task(dispatcher.run(stop))
            cancelling = tasks.create_task(cancellations.run(stop))
            app = build_app(
                settings,
                batches,
                submissions,
                references,
                ready={**checks, "rabbitmq": consumer.check},
                alive={
                    "worker": running(consuming),
                    "dispatcher": running(dispatching),
                    "cancellations": running(cancelling),
                },
                stop=stop,
            )
            server = http_server(app, host=settings.host, port=settings.port)
            tasks.create_task(serve_until(stop, server))


def _ignore(outcome: Outcome, code: str) -> None:
    """Items are counted where their outcome is recorded, which happens once however often."""


async def main() -> None:
    """Run until SIGTERM or SIGINT."""
    await run(Configuration(), stop_on_signals())


if __name__ == "__main__":
    configure_logging(LogSettings(), service="fetcher")
    asyncio.run(main())
