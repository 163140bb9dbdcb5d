"""The whole pipeline on this machine: ``python -m infra.local.run`` (see ``./run_local.sh``)."""

import argparse
import asyncio
import shutil
import signal
import sys
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
from infra.local.ingest import Ingested, ingest, is_address
from infra.local.install import install_missing
from infra.local.ports import check_ports_free
from infra.local.servers import Home, url_of
from infra.local.settings import LocalSettings, Ports
from infra.local.stack import DATABASE, Addresses, open_servers
from infra.local.supervisor import Program, Supervisor
from infra.monitoring.local import monitoring_programs
from services.cli.errors import CommandError
from services.cli.fetcher import open_fetcher
from services.cli.settings import CliSettings
from services.common.errors import PipelineError
from services.common.index import open_index
from services.common.settings import MongoSettings
from services.fetcher.settings import FetcherSettings

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
OWN_FOLDERS = frozenset(
    {
        *("rabbitmq", "minio", "mongo", "prometheus", "prometheus-config"),
        *("alertmanager", "alertmanager-config", "alert-webhook", "logs"),
    }
)
"""What ``--clean`` removes; anything else in the folder stays."""


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    source: str | None
    """Path or address of a list; None: the bundled samples."""
    exits: bool
    """Stop when the list is done."""
    cleans: bool
    """Begin without data."""


class Stage:
    """Says what is going on, with the time each step took."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, line: str) -> None:
        """Show a line that may hold anything."""
        self.console.print(Text(line))

    def event(self, line: str) -> None:
        """Show what happened to a child."""
        self.console.print(Text(line, style="yellow"))

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Show a step while it runs, and how long it took."""
        begin = time.monotonic()
        with self.console.status(what):
            yield
        self.console.print(Text(f"{what}: {time.monotonic() - begin:.1f} s"))


async def run(options: Options, home: Home, stage: Stage) -> int:
    """Run everything; return the exit status.

    Raises:
        LocalError: A server or service did not start, was given up, or nothing moved any more.
        CommandError: The fetcher refused the list.
    """
    has_site = options.source is None
    async with Supervisor(on_event=stage.event) as supervisor:
        work = _pipeline(options, home, stage, supervisor, has_site=has_site)
        return await _unless_given_up(work, supervisor)


async def _unless_given_up(work: Coroutine[Any, Any, int], supervisor: Supervisor) -> int:
    """Do the work, unless a child is given up meanwhile."""
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
    options: Options, home: Home, stage: Stage, supervisor: Supervisor, *, has_site: bool
) -> int:
    async with _everything(home, stage, supervisor, has_site=has_site):
        ingested = await _ingest(options, home, stage)
        if options.exits:
            stage.say("stopping")
            return 0 if ingested.is_complete else 1
        stage.console.print(Text("Running until Ctrl-C.", style="bold"))
        await asyncio.Event().wait()
    return 0


@asynccontextmanager
async def _everything(
    home: Home, stage: Stage, supervisor: Supervisor, *, has_site: bool
) -> AsyncIterator[None]:
    """Run servers, services and monitoring for the length of an ``async with`` block."""
    begin = time.time()
    independent = [
        services.ocr_api(home),
        *([services.sample_site(home)] if has_site else []),
        *monitoring_programs(home),
    ]
    async with AsyncExitStack() as stack:
        with stage.step("starting RabbitMQ, MinIO, MongoDB, Prometheus and the OCR API"):
            addresses = await _start(independent, home, supervisor, stack)
        with stage.step("setting up queues, bucket, encryption and indexes"):
            await services.provision(home, addresses)
        dependent = [
            services.fetcher(home, addresses, has_site=has_site),
            services.consumer(home, addresses),
        ]
        with stage.step("starting the fetcher and the consumer"):
            await stack.enter_async_context(services.running(supervisor, dependent))
            await report.wait_scraped(home, since=begin)
        yield


async def _start(
    independent: Sequence[Program], home: Home, supervisor: Supervisor, stack: AsyncExitStack
) -> Addresses:
    """Start the servers, and beside them what does not need them."""
    settings = home.settings
    servers = open_servers(settings.folder, home.ports, supervisor=supervisor, settings=settings)
    try:
        async with asyncio.TaskGroup() as group:
            opening = group.create_task(stack.enter_async_context(servers))
            group.create_task(stack.enter_async_context(services.running(supervisor, independent)))
    except* LocalError as errors:
        raise errors.exceptions[0] from None
    return opening.result()


async def _ingest(options: Options, home: Home, stage: Stage) -> Ingested:
    """Bring the list through, and show what came of it."""
    console, ports = stage.console, home.ports
    settings = CliSettings(
        fetcher_url=HttpUrl(url_of(ports.fetcher_port)), fetcher_token=FetcherSettings().api_token
    )
    mongo = MongoSettings(url=MongoDsn(home.mongo_url), database=DATABASE)
    async with open_fetcher(settings) as fetcher, open_index(mongo) as index:
        ingested = await ingest(
            options.source,
            samples_port=ports.samples_port,
            fetcher=fetcher,
            index=index,
            console=console,
        )
        rows = await report.find_rows(index.images, ingested.document_ids)
    report.show_outcome(console, ingested, rows)
    with console.status("waiting for Prometheus to see it"):
        values = await report.figures(home)
    console.print(report.figure_table(values))
    console.print(report.address_table(home))
    return ingested


def clean(folder: Path) -> None:
    """Remove the data of earlier runs, and nothing else that may be in the folder."""
    for name in OWN_FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)


async def _run_until_signal(options: Options, home: Home, stage: Stage) -> int:
    """Run; the first signal stops everything cleanly, further ones change nothing."""
    work = asyncio.create_task(run(options, home, stage))
    is_interrupted = False

    def interrupt() -> None:
        nonlocal is_interrupted
        if not is_interrupted:
            is_interrupted = True
            stage.say("stopping")
            work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    try:
        return await work
    except asyncio.CancelledError:
        return INTERRUPTED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    options = _options(arguments)
    stage = Stage(Console(highlight=False))
    try:
        settings, ports = LocalSettings(), Ports()
        home = Home(settings, ports)
        _check_source(options.source)
        install_missing(stage.say)
        check_ports_free(ports, Ports.model_fields)
        if options.cleans:
            clean(settings.folder)
        return asyncio.run(_run_until_signal(options, home, stage))
    except KeyboardInterrupt:
        return INTERRUPTED
    except (LocalError, CommandError, PipelineError, ValidationError) as error:
        stage.console.print(Text(f"Error: {error}", style="red"))
        return 1


def _options(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="./run_local.sh",
        description="Run the whole pipeline on this machine, and bring a list of images through.",
        epilog="Exit status: 0 every item is indexed or has a recorded reason, 1 it is not so or "
        "something did not start, 130 interrupted.",
    )
    parser.add_argument(
        "list", nargs="?", help="file or http(s) address of image URLs; none: bundled samples"
    )
    parser.add_argument("--exit", action="store_true", help="stop when the list is done")
    parser.add_argument("--clean", action="store_true", help="forget the data of earlier runs")
    parsed = parser.parse_args(arguments)
    return Options(source=parsed.list, exits=parsed.exit, cleans=parsed.clean)


def _check_source(source: str | None) -> None:
    """Find a wrong path before anything is installed or started."""
    if source is not None and not is_address(source) and not Path(source).is_file():
        raise LocalError(
            f"there is no list {source}; give the path of a file or an http(s) address"
        )


if __name__ == "__main__":
    sys.exit(main())
