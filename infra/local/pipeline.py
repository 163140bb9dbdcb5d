"""The whole pipeline as child processes of this one: start, ingest a list, report, stop."""

import asyncio
import shutil
import signal
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import HttpUrl, MongoDsn, ValidationError
from rich.console import Console
from rich.text import Text

from infra.local import report, services
from infra.local.errors import LocalError
from infra.local.ingest import Ingested, ingest
from infra.local.install import install_missing
from infra.local.monitoring import monitoring_programs
from infra.local.ports import check_ports_free
from infra.local.servers import Home, url_of
from infra.local.settings import LocalSettings, Ports
from infra.local.stack import DATABASE, Addresses, addresses_of, open_servers
from infra.local.submission import is_address
from infra.local.supervisor import Program, Supervisor
from services.cli.errors import CommandError
from services.cli.fetcher import open_fetcher
from services.cli.settings import CliSettings
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import open_database
from services.common.domain.errors import PipelineError
from services.common.runtime.settings import MongoSettings
from services.fetcher.settings import FetcherSettings

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
OWN_FOLDERS = frozenset(
    {
        *("rabbitmq", "minio", "mongo", "prometheus", "prometheus-config"),
        *("alertmanager", "alertmanager-config", "alert-webhook", "logs"),
    }
)
"""Data removed by a clean start; other files are kept."""


@dataclass(frozen=True)
class Options:
    """Options of the command line."""

    source: str | None
    """Path or address of a list; None: the bundled samples."""
    exits: bool
    """Stop when the list is done."""
    cleans: bool
    """Start without data."""


class Stage:
    """Shows the steps with their durations."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, line: str) -> None:
        """Show a line of untrusted text."""
        self.console.print(Text(line))

    def event(self, line: str) -> None:
        """Show an event of a child process."""
        self.console.print(Text(line, style="yellow"))

    def error(self, text: str) -> None:
        """Show a fatal error."""
        self.console.print(Text(f"Error: {text.strip()}", style="red"))

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Show a step while it runs, and its duration."""
        begin = time.monotonic()
        with self.console.status(what):
            yield
        self.console.print(Text(f"{what}: {time.monotonic() - begin:.1f} s"))


class Interruption:
    """Signal handler: cancels the work, or ends the wait after it."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._is_awaited = False

    async def wait(self) -> None:
        """Wait for a signal after the work."""
        self._is_awaited = True
        await self._asked.wait()

    def install(self, work: asyncio.Task[int], stage: Stage) -> None:
        """Install the handlers; only the first signal counts, to finish the shutdown."""

        def interrupt() -> None:
            if not self._asked.is_set():
                self._asked.set()
                stage.say("stopping")
                if not self._is_awaited:
                    work.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, interrupt)


def run(options: Options) -> int:
    """Run everything; return the exit status."""
    stage = Stage(Console(highlight=False))
    try:
        home = Home(LocalSettings(), Ports())
        _check_source(options.source)
        install_missing(stage.say)
        check_ports_free(home.ports, Ports.model_fields)
        if options.cleans:
            clean(home.settings.folder)
        return asyncio.run(_run_until_signal(options, home, stage))
    except KeyboardInterrupt:
        return INTERRUPTED
    except CommandError as error:
        stage.error(f"{error}\n{error.hint}")
    except (LocalError, PipelineError, ValidationError) as error:
        stage.error(str(error))
    return 1


def _check_source(source: str | None) -> None:
    """Check the path before anything is installed or started."""
    if source is not None and not is_address(source) and not Path(source).is_file():
        raise LocalError(f"list {source} not found; give the path of a file or an http(s) URL")


def clean(folder: Path) -> None:
    """Remove the data of earlier runs, and nothing else in the folder."""
    for name in OWN_FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)


async def _run_until_signal(options: Options, home: Home, stage: Stage) -> int:
    interruption = Interruption()
    work = asyncio.create_task(_supervised(options, home, stage, interruption))
    interruption.install(work, stage)
    try:
        return await work
    except asyncio.CancelledError:
        return INTERRUPTED


async def _supervised(
    options: Options, home: Home, stage: Stage, interruption: Interruption
) -> int:
    async with Supervisor(on_event=stage.event) as supervisor:
        work = _pipeline(options, home, stage, supervisor, interruption)
        return await _unless_given_up(work, supervisor)


async def _unless_given_up(work: Coroutine[Any, Any, int], supervisor: Supervisor) -> int:
    """Do the work, unless a child process is given up."""
    working = asyncio.create_task(work)
    failing = asyncio.create_task(supervisor.wait_failed())
    try:
        await asyncio.wait([working, failing], return_when=asyncio.FIRST_COMPLETED)
        if failing.done():
            await failing
        return await working
    finally:
        failing.cancel()
        working.cancel()
        await asyncio.gather(working, failing, return_exceptions=True)


async def _pipeline(
    options: Options, home: Home, stage: Stage, supervisor: Supervisor, interruption: Interruption
) -> int:
    async with _everything(home, stage, supervisor, has_site=options.source is None):
        ingested = await _ingest(options, home, stage)
        if options.exits:
            stage.say("stopping")
        else:
            stage.say("Running until Ctrl-C.")
            await interruption.wait()
    return 0 if ingested.is_complete else 1


@asynccontextmanager
async def _everything(
    home: Home, stage: Stage, supervisor: Supervisor, *, has_site: bool
) -> AsyncIterator[None]:
    """Run servers, services and monitoring during an ``async with`` block."""
    begin = time.time()
    independent = [
        services.ocr_api(home, has_site=has_site),
        *([services.sample_site(home)] if has_site else []),
        *([services.shadow_ocr_api(home)] if home.settings.shadow_model else []),
        *monitoring_programs(home),
    ]
    async with AsyncExitStack() as stack:
        with stage.step("starting RabbitMQ, MinIO, MongoDB, Prometheus and the OCR API"):
            addresses = await _start(independent, home, supervisor, stack)
        dependent = [
            services.fetcher(home, addresses, has_site=has_site),
            services.consumer(home, addresses),
            services.review(home, addresses),
        ]
        with stage.step(
            "setting up queues, bucket, indexes; starting review, fetcher and consumer"
        ):
            # In parallel: they wait for missing queues, and imports use both cores
            await _together(
                services.provision(home, addresses),
                stack.enter_async_context(services.running(supervisor, dependent)),
            )
            last = [services.reconciler(home, addresses), services.segmenter(home, addresses)]
            await _together(
                report.wait_scraped(home, since=begin),
                stack.enter_async_context(services.running(supervisor, last)),
            )
        yield


async def _start(
    independent: Sequence[Program], home: Home, supervisor: Supervisor, stack: AsyncExitStack
) -> Addresses:
    """Start the servers, and in parallel what does not need them."""
    settings = home.settings
    servers = open_servers(settings.folder, home.ports, supervisor=supervisor, settings=settings)
    await _together(
        stack.enter_async_context(servers),
        stack.enter_async_context(services.running(supervisor, independent)),
    )
    return addresses_of(home)


async def _together(*works: Coroutine[Any, Any, object]) -> None:
    """Run concurrently; the first failure cancels the rest."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except* LocalError as errors:
        raise errors.exceptions[0] from None


async def _ingest(options: Options, home: Home, stage: Stage) -> Ingested:
    """Ingest the list and show the result."""
    console, ports = stage.console, home.ports
    settings = CliSettings(
        fetcher_url=HttpUrl(url_of(ports.fetcher_port)), fetcher_token=FetcherSettings().api_token
    )
    mongo = MongoSettings(url=MongoDsn(home.mongo_url), database=DATABASE)
    async with open_fetcher(settings) as fetcher, open_database(mongo) as database:
        ingested = await ingest(
            options.source,
            samples_port=ports.samples_port,
            fetcher=fetcher,
            database=database,
            console=console,
            stalled_seconds=home.settings.index_stalled_seconds,
        )
        rows = await report.find_rows(ImageRepository(database.images), ingested.document_ids)
    report.show_outcome(console, ingested, rows)
    with console.status("waiting for Prometheus to see it"):
        values = await report.figures(home)
    console.print(report.figure_table(values))
    console.print(report.address_table(home))
    return ingested
