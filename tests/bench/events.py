"""Events of MinIO by number of targets: ``python -m tests.bench.events --targets 1 8 --images N``.

Objects with keys of fetched images are written to a real MinIO. Counted is how many events a second
arrive in RabbitMQ: *live*, while they are written, and *drain*, where RabbitMQ stood still until
all were written. Nothing takes them from the queue. Numbers of targets take turns, each with
servers of its own.
"""

import argparse
import asyncio
import logging
import os
import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

from infra.local import services
from infra.local.ports import pick_free_ports
from infra.local.servers import Home
from infra.local.settings import LocalSettings
from infra.local.stack import open_servers
from infra.local.supervisor import Supervisor
from services.common.adapters.object_store import ObjectStore, open_object_store
from services.common.adapters.rabbitmq.messaging import Publisher, open_publisher
from services.common.adapters.rabbitmq.retry_policy import OCR_QUEUES
from services.common.domain.keys import fetched_key
from tests.bench.processes import cpu_seconds
from tests.support.pipeline import Pipeline
from tests.support.waiting import eventually

log = logging.getLogger(__name__)

OBJECT_BYTES = 8 * 1024
AT_ONCE = 32
"""Concurrent writes."""
LONGEST_SECONDS = 600.0
SERVERS = ("minio", "rabbitmq")


@dataclass(frozen=True)
class Bench:
    """Servers with a number of targets."""

    pipeline: Pipeline
    """Servers alone."""
    store: ObjectStore
    publisher: Publisher
    images: int

    async def live(self) -> list[float]:
        """Return events a second while images are written, and milliseconds of CPU by server."""
        began, used = time.monotonic(), self._used()
        await self._write("live")
        await self._arrived(self.images)
        return self._figures(began, used)

    async def drain(self) -> list[float]:
        """Return the same where RabbitMQ stands still until all are written."""
        known = await self.publisher.depth(OCR_QUEUES.work)
        self.pipeline.signal("rabbitmq", signal.SIGSTOP)
        try:
            await self._write("drain")
        finally:
            began, used = time.monotonic(), self._used()
            self.pipeline.signal("rabbitmq", signal.SIGCONT)
        await self._arrived(known + self.images)
        return self._figures(began, used)

    async def _write(self, name: str) -> None:
        slots = asyncio.Semaphore(AT_ONCE)

        async def write(number: int) -> None:
            content = f"{name} {number} ".encode().ljust(OBJECT_BYTES, b"x")
            key = fetched_key(sha256(content).hexdigest(), "png")
            async with slots:
                await self.store.write(key, content, content_type="image/png", metadata={})

        await asyncio.gather(*(write(number) for number in range(self.images)))

    async def _arrived(self, count: int) -> None:
        """Wait until the queue has so many messages."""

        async def are_there() -> bool:
            return await self.publisher.depth(OCR_QUEUES.work) >= count

        await eventually(are_there, seconds=LONGEST_SECONDS)

    def _used(self) -> list[float]:
        return [cpu_seconds(self.pipeline.supervisor.pid(name)) for name in SERVERS]

    def _figures(self, began: float, used: Sequence[float]) -> list[float]:
        seconds = time.monotonic() - began
        spent = [now - before for now, before in zip(self._used(), used, strict=True)]
        return [self.images / seconds, *(1000 * each / self.images for each in spent)]


@asynccontextmanager
async def bench(targets: int, images: int) -> AsyncIterator[Bench]:
    """Run servers whose events this number of targets share."""
    variables = {"PROVISIONER_NOTIFICATION_TARGETS": str(targets)}
    with TemporaryDirectory(prefix="docreco-events-") as folder, patch.dict(os.environ, variables):
        home = Home(LocalSettings(folder=Path(folder)), pick_free_ports())
        async with (
            Supervisor(on_event=log.info) as supervisor,
            open_servers(Path(folder), home.ports, supervisor=supervisor) as addresses,
        ):
            await services.provision(home, addresses)
            loop = asyncio.get_running_loop()
            pipeline = Pipeline(home, addresses, supervisor, loop, programs={}, events=[])
            async with (
                open_object_store(pipeline.s3) as store,
                open_publisher(pipeline.amqp) as publisher,
            ):
                yield Bench(pipeline, store, publisher, images)


async def measure(targets: Sequence[int], images: int, rounds: int) -> Table:
    """Measure numbers of targets by turns; return medians."""
    found: dict[tuple[int, str], list[list[float]]] = defaultdict(list)
    for _ in range(rounds):
        for count in targets:
            async with bench(count, images) as servers:
                found[count, "live"].append(await servers.live())
                found[count, "drain"].append(await servers.drain())
    table = Table(
        "targets", "", "events/s", *(f"{name}: ms of CPU of an event" for name in SERVERS)
    )
    for (count, kind), figures in found.items():
        rate, *costs = (statistics.median(each) for each in zip(*figures, strict=True))
        table.add_row(str(count), kind, f"{rate:.0f}", *(f"{cost:.2f}" for cost in costs))
    return table


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.events", description=__doc__)
    parser.add_argument("--targets", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    table = asyncio.run(measure(given.targets, given.images, given.rounds))
    Console(file=sys.stdout).print(table)


if __name__ == "__main__":
    main()
