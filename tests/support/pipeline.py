"""The whole pipeline on real servers and real processes, for tests that drive it from outside."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp import ClientSession
from pydantic import AmqpDsn, HttpUrl, MongoDsn

from infra.local import services
from infra.local.ports import pick_free_ports
from infra.local.servers import Home, url_of
from infra.local.settings import LocalSettings
from infra.local.site import SITE_HOST
from infra.local.stack import BUCKET, DATABASE, Addresses, open_servers
from infra.local.supervisor import Program, Supervisor
from services.common.adapters.mongo import Database, Document, open_database
from services.common.adapters.object_store import ObjectStore, open_object_store
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from tests.support.waiting import DEADLINE_SECONDS, eventually

START_TIMEOUT_SECONDS = 240.0
STOP_TIMEOUT_SECONDS = 120.0
FOR_TESTS = {
    "ocr-api": {"OCR_MAX_WAIT_SECONDS": "600"},
    "reconciler": {"RECONCILER_ANNOTATED_INTERVAL_SECONDS": "5"},
}
"""Settings by program: no image is refused where cores are busy, and nothing is waited for long."""
SITE_ADDRESS = SITE_HOST
"""The one loopback address that the pipeline's fetcher may fetch from."""


@dataclass
class Pipeline:
    """A running pipeline; everything may be used from any thread."""

    home: Home
    addresses: Addresses
    supervisor: Supervisor
    loop: asyncio.AbstractEventLoop
    programs: dict[str, Program]
    events: list[str] = field(default_factory=list)
    """Messages of the supervisor, one per event."""

    @property
    def fetcher_url(self) -> str:
        return url_of(self.home.ports.fetcher_port)

    @property
    def ocr_url(self) -> str:
        return url_of(self.home.ports.ocr_api_port)

    @property
    def consumer_url(self) -> str:
        return url_of(self.home.ports.consumer_port)

    @property
    def review_url(self) -> str:
        return url_of(self.home.ports.review_port)

    @property
    def service_urls(self) -> tuple[str, ...]:
        """Addresses of the services that images and people come through."""
        return (self.ocr_url, self.fetcher_url, self.consumer_url, self.review_url)

    @property
    def s3(self) -> S3Settings:
        return S3Settings(
            endpoint_url=HttpUrl(self.addresses.s3_endpoint_url),
            access_key_id=self.addresses.s3_access_key_id,
            secret_access_key=self.addresses.s3_secret_access_key,
            bucket=BUCKET,
        )

    @property
    def mongo(self) -> MongoSettings:
        url = MongoDsn(self.addresses.mongo_url.get_secret_value())
        return MongoSettings(url=url, database=DATABASE)

    @property
    def amqp(self) -> AmqpSettings:
        return AmqpSettings(url=AmqpDsn(self.addresses.amqp_url.get_secret_value()))

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a program's whole process group."""
        os.killpg(self.supervisor.pid(name), number)

    async def stop(self, name: str) -> None:
        """Stop a program, and leave it stopped."""
        await self._there(self.supervisor.stop(name))

    async def start(self, name: str) -> None:
        """Start a program that was stopped."""
        await self._there(self.supervisor.start(self.programs[name]))

    @asynccontextmanager
    async def changed(self, settings: Mapping[str, Mapping[str, str]]) -> AsyncIterator[None]:
        """Run programs with other settings for the length of an ``async with`` block.

        Args:
            settings: By name of the program.
        """
        changed = [
            replace(_with(self.programs[name], own), ready_timeout_seconds=START_TIMEOUT_SECONDS)
            for name, own in settings.items()
        ]
        await asyncio.gather(*(self._replace(program) for program in changed))
        try:
            yield
        finally:
            await asyncio.gather(*(self._replace(self.programs[name]) for name in settings))

    async def _replace(self, program: Program) -> None:
        await self.stop(program.name)
        await self._there(self.supervisor.start(program))

    async def _there(self, work: Any) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))


@contextmanager
def pipeline_in_a_thread() -> Iterator[Pipeline]:
    """Run a pipeline of its own on an event loop of its own, in a folder that is removed."""
    ready: Future[Pipeline] = Future()
    stop: Future[None] = Future()

    async def serve(folder: Path) -> None:
        async with open_pipeline(folder) as pipeline:
            ready.set_result(pipeline)
            await asyncio.wrap_future(stop)

    def run(folder: Path) -> None:
        try:
            asyncio.run(serve(folder))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    with TemporaryDirectory(prefix="docreco-pipeline-") as folder:
        thread = threading.Thread(target=run, args=[Path(folder)], name="pipeline", daemon=True)
        thread.start()
        try:
            yield ready.result(START_TIMEOUT_SECONDS)
        finally:
            stop.set_result(None)
            thread.join(STOP_TIMEOUT_SECONDS)


@asynccontextmanager
async def open_pipeline(
    folder: Path, *, change: Callable[[Program], Program] = lambda program: program
) -> AsyncIterator[Pipeline]:
    """Run servers and services on free ports.

    Args:
        folder: Of their data.
        change: Returns how a service is to be run instead.
    """
    events: list[str] = []

    def tell(line: str) -> None:
        events.append(line)
        sys.stderr.write(f"{line}\n")

    home = Home(LocalSettings(folder=folder), pick_free_ports())
    async with (
        Supervisor(on_event=tell) as supervisor,
        open_servers(folder, home.ports, supervisor=supervisor) as addresses,
    ):
        await services.provision(home, addresses)
        programs = {
            program.name: change(_with(program, FOR_TESTS.get(program.name, {})))
            for program in (
                services.ocr_api(home, has_site=True),
                services.fetcher(home, addresses, has_site=True),
                services.consumer(home, addresses),
                services.review(home, addresses),
                services.reconciler(home, addresses),
                services.segmenter(home, addresses),
            )
        }
        async with services.running(supervisor, list(programs.values())):
            loop = asyncio.get_running_loop()
            yield Pipeline(home, addresses, supervisor, loop, programs, events)


def _with(program: Program, settings: Mapping[str, str]) -> Program:
    return replace(program, env={**program.env, **settings})


@dataclass(frozen=True)
class Client:
    """A pipeline as used by a test: its API, its bucket and its documents."""

    fetcher: ClientSession
    store: ObjectStore
    database: Database

    async def submit(self, *items: dict[str, str]) -> str:
        """Submit URLs; return the batch's id."""
        async with self.fetcher.post("/batches", json={"items": list(items)}) as response:
            assert response.status == 202, await response.text()
            return str((await response.json())["batch_id"])

    async def completed(
        self, batch_id: str, *, seconds: float = DEADLINE_SECONDS
    ) -> dict[str, int]:
        """Wait for the end of a batch; return its counts."""

        async def counts() -> dict[str, int] | None:
            async with self.fetcher.get(f"/batches/{batch_id}") as response:
                batch = await response.json()
                return dict(batch["counts"]) if batch["state"] == "completed" else None

        return await eventually(counts, seconds=seconds)

    async def items(self, batch_id: str) -> list[dict[str, Any]]:
        """Return the items of a batch with their outcomes."""
        async with self.fetcher.get(f"/batches/{batch_id}/items?limit=500") as response:
            return list((await response.json())["items"])

    async def document(self, where: Document, *, seconds: float = 30.0) -> Document:
        """Wait for a document."""
        return await eventually(lambda: self.database.images.find_one(where), seconds=seconds)

    async def count_reaches(
        self, count: int, where: Document, *, seconds: float = DEADLINE_SECONDS
    ) -> None:
        """Wait until this many documents match."""

        async def enough() -> bool:
            return await self.database.images.count(where) >= count

        await eventually(enough, seconds=seconds)


@asynccontextmanager
async def open_client(pipeline: Pipeline) -> AsyncIterator[Client]:
    """Open connections for the length of an ``async with`` block."""
    async with (
        ClientSession(pipeline.fetcher_url) as fetcher,
        open_object_store(pipeline.s3) as store,
        open_database(pipeline.mongo) as database,
    ):
        yield Client(fetcher, store, database)
