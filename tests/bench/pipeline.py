"""Speed from a list of URLs to documents: ``python -m tests.bench.pipeline [--images N]``.

In turns, over the same line images: the whole pipeline by its default settings but for the rate of
a host (``FETCHER_HOST_RATE=0``), and a bare loop of rapidocr's own call, which decodes and reads
files and promises nothing. The site is a process of its own. A run reports

* images a second of both, and their ratio, the median of the rounds;
* processor time of an image by process, idle time taken off;
* with ``--uploads N`` the seconds from an upload to its document, with nothing else to do;
* where images wait: the mean number of them in front of each stage, and when the last was fetched.

``--lines ZIP`` reads real lines, as those of ``../shared/data``; without it lines are rendered.
Settings of services are taken from the environment: ``CONSUMER_PREFETCH=16 python -m …``.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import aiohttp
from rich.console import Console
from rich.table import Table

from infra.local.ports import pick_free_ports
from infra.local.supervisor import Program
from services.common.adapters.rabbitmq.messaging import open_publisher
from services.common.adapters.rabbitmq.retry_policy import OCR_QUEUES
from tests.bench.ocr import loop_rate, p, rapidocr_reader
from tests.bench.processes import cpu_of
from tests.support.images import line_image
from tests.support.pipeline import FOR_TESTS, Client, Pipeline, open_client, open_pipeline
from tests.support.static_site import host, static_site

IMAGES, RUNS, HOSTS, THREADS = 1000, 3, 8, 2
WARM_UP_IMAGES = 50
SAMPLE_SECONDS = 0.5
IDLE_SECONDS = 5.0
TEXT = "the line of a letter is read once and kept with its score until someone corrects it"


def write_lines(folder: Path, count: int, archive: Path | None) -> None:
    """Write line images into a folder: of an archive, evenly spread, or rendered ones."""
    if archive is None:
        dice = Random(7)  # noqa: S311  chosen to be repeatable
        for number in range(count):
            text = TEXT[: dice.randint(4, len(TEXT))]
            image = line_image(f"{number} {text}", font_size=dice.randint(18, 40))
            (folder / f"{number:06d}.png").write_bytes(image)
        return
    with ZipFile(archive) as lines:
        names = sorted(each for each in lines.namelist() if each.startswith("lines/"))
        count = min(count, len(names))
        for number in range(count):
            name = names[number * len(names) // count]
            (folder / f"{number:06d}{Path(name).suffix}").write_bytes(lines.read(name))


def as_deployed(program: Program) -> Program:
    """Return a service that may fetch from the site as often as it can, and else has defaults."""
    env = {**program.env}
    for name in FOR_TESTS.get(program.name, {}):
        env.pop(name)
    if program.name == "fetcher":
        env |= {"FETCHER_HOST_RATE": "0", "FETCHER_ALLOWED_PRIVATE_NETWORKS": "127.0.0.0/8"}
    return replace(program, env=env)


@dataclass
class Measured:
    """Results of all rounds."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    images: int = 0
    cpu: dict[str, float] = field(default_factory=dict)
    """Seconds by process."""
    loop_cpu: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    idle: dict[str, float] = field(default_factory=dict)
    """Seconds by process in a second without work."""
    waiting: Counter[str] = field(default_factory=Counter)
    samples: int = 0
    uploads: list[float] = field(default_factory=list)
    """Seconds from a person's upload to its document, with nothing else to do."""
    fetched_at: list[float] = field(default_factory=list)
    """Share of a run after which the last image was in the bucket."""

    def figures(self) -> dict[str, float]:
        """Return everything by its name in the table."""
        ratios = [one / other for one, other in zip(self.ours, self.theirs, strict=True)]
        found = {
            "pipeline, images/s": statistics.median(self.ours),
            "bare loop, images/s": statistics.median(self.theirs),
            "pipeline / bare loop": statistics.median(ratios),
            "all are fetched after, share of a run": statistics.median(self.fetched_at),
        }
        found |= {
            f"waiting {place}, mean": sum_ / self.samples for place, sum_ in self.waiting.items()
        }
        costs = {
            name: 1000 * (used - self.idle[name] * self.seconds) / self.images
            for name, used in sorted(self.cpu.items(), key=lambda each: -each[1])
        }
        found |= {f"CPU of an image, {name}, ms": each for name, each in costs.items()}
        if self.uploads:
            found["upload to document at idle, median s"] = statistics.median(self.uploads)
            found["upload to document at idle, p95 s"] = p(0.95, self.uploads) / 1000
        found["CPU of an image, all, ms"] = sum(costs.values())
        found["CPU of an image, bare loop, ms"] = 1000 * self.loop_cpu["loop"] / self.images
        return found


class Bench:
    """A running pipeline, its site, and what is measured with them.

    Args:
        pipeline: With the settings of ``as_deployed``.
        client: Of it.
        session: For requests to its services.
        folder: Line images, which the site serves as well.
        port: Of the site.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        client: Client,
        session: aiohttp.ClientSession,
        folder: Path,
        port: int,
    ) -> None:
        self._pipeline = pipeline
        self._client = client
        self._port = port
        self._session = session
        self._batches = 0
        self.contents = [each.read_bytes() for each in sorted(folder.iterdir())]
        self.measured = Measured()

    def _processes(self) -> dict[str, int]:
        names = [*self._pipeline.programs, "minio", "mongo", "rabbitmq"]
        return {name: self._pipeline.supervisor.pid(name) for name in names}

    async def round(self) -> None:
        """Read all lines by the pipeline, then by the loop."""
        found, count = self.measured, len(self.contents)
        found.images += count
        began = time.perf_counter()
        with cpu_of(self._processes(), found.cpu):
            await self.ingest(count, samples=True)
        found.seconds += time.perf_counter() - began
        found.ours.append(count / (time.perf_counter() - began))
        with cpu_of({"loop": os.getpid()}, found.loop_cpu):
            found.theirs.append(await asyncio.to_thread(best_loop_rate, self.contents))

    async def rest(self) -> None:
        """Measure what the processes use while nothing is to be done."""
        with cpu_of(self._processes(), self.measured.idle):
            await asyncio.sleep(IDLE_SECONDS)
        for name in self.measured.idle:
            self.measured.idle[name] /= IDLE_SECONDS

    async def upload(self, number: int) -> None:
        """Put an image as a person does, and wait for its document."""
        content = self.contents[number % len(self.contents)]
        began = time.perf_counter()
        key = f"scans/{number}.png"
        await self._client.store.write(key, content, content_type="image/png", metadata={})
        await self._client.document({"key": key, "status": "predicted"})
        self.measured.uploads.append(time.perf_counter() - began)

    async def ingest(self, count: int, *, samples: bool) -> None:
        """Submit a list of new images, and wait until each has its document."""
        self._batches += 1
        urls = [
            f"http://{host(number % HOSTS)}:{self._port}/{self._batches}/{number}.png"
            for number in range(count)
        ]
        documents = await self._client.database.images.count({"status": "predicted"})
        stored, handled = await self._stored(), await self._handled()
        body, began = "\n".join(urls).encode(), time.perf_counter()
        kind = {"Content-Type": "text/plain"}
        async with self._client.fetcher.post("/batches", data=body, headers=kind) as answer:
            assert answer.status == 202, await answer.text()
        fetched_at = 0.0
        async with open_publisher(self._pipeline.amqp) as publisher:
            while (done := await self._handled() - handled) < count:
                fetched = await self._stored() - stored
                fetched_at = fetched_at or (fetched >= count and time.perf_counter() - began) or 0.0
                if samples:
                    await self._sample(
                        await publisher.depth(OCR_QUEUES.work), fetched - done, count - fetched
                    )
                await asyncio.sleep(SAMPLE_SECONDS)
        now = await self._client.database.images.count({"status": "predicted"})
        assert now - documents == count, f"{now - documents} documents of {count} images"
        if samples:
            self.measured.fetched_at.append(fetched_at / (time.perf_counter() - began))

    async def _sample(self, queued: int, between: int, unfetched: int) -> None:
        reading = await self._values(self._pipeline.ocr_url, "ocr_queue_depth")
        in_api = await self._values(self._pipeline.ocr_url, "ocr_in_flight_requests")
        self.measured.samples += 1
        self.measured.waiting.update(
            {
                "to be fetched": unfetched,
                "for their event, or in the consumer": between - queued - in_api,
                "in RabbitMQ": queued,
                "for a thread of the OCR API": reading,
                "in the OCR API in all": in_api,
            }
        )

    async def _stored(self) -> int:
        return await self._values(self._pipeline.fetcher_url, 'fetcher_items_total{.*"stored".*}')

    async def _handled(self) -> int:
        name = 'consumer_deliveries_total{.*outcome="acked".*}'
        return await self._values(self._pipeline.consumer_url, name)

    async def _values(self, url: str, pattern: str) -> int:
        async with self._session.get(f"{url}/metrics") as answer:
            found = re.findall(rf"^{pattern} (.+)$", await answer.text(), re.MULTILINE)
        return int(sum(map(float, found)))


def best_loop_rate(contents: Sequence[bytes]) -> float:
    """Return the rate of rapidocr's own call by two threads, of one core each."""
    readers = [rapidocr_reader(1) for _ in range(THREADS)]
    free = list(readers)

    def read(pixels: object) -> None:
        reader = free.pop()
        try:
            reader(pixels)  # type: ignore[arg-type]
        finally:
            free.append(reader)

    return loop_rate(read, list(contents), threads=THREADS)


@asynccontextmanager
async def bench(images: int, archive: Path | None) -> AsyncIterator[Bench]:
    """Run the pipeline and a site with lines."""
    port = pick_free_ports().samples_port
    with TemporaryDirectory(prefix="docreco-bench-") as folder:
        lines = Path(folder) / "lines"
        lines.mkdir()
        write_lines(lines, images, archive)
        with static_site(port, hosts=HOSTS, folder=lines):
            async with (
                open_pipeline(Path(folder) / "pipeline", change=as_deployed) as pipeline,
                open_client(pipeline) as client,
                aiohttp.ClientSession() as session,
            ):
                yield Bench(pipeline, client, session, lines, port)


async def measure(
    images: int, runs: int, archive: Path | None, uploads: int
) -> Mapping[str, float]:
    """Alternate pipeline and loop."""
    async with bench(images, archive) as running:
        await running.ingest(min(WARM_UP_IMAGES, len(running.contents)), samples=False)
        await running.rest()
        for _ in range(runs):
            await running.round()
        for number in range(uploads):
            await running.upload(number)
        return running.measured.figures()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pipeline", description=__doc__)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--lines", type=Path, help="an archive of line images")
    parser.add_argument("--uploads", type=int, default=0, help="also put so many, one by one")
    parser.add_argument(
        "--json", type=Path, help="write the figures there, for tests.bench.scaling"
    )
    given = parser.parse_args()
    figures = asyncio.run(measure(given.images, given.runs, given.lines, given.uploads))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2))
    name = given.lines.stem if given.lines else "rendered lines"
    table = Table("", "", title=f"{name}: {given.images} images, {given.runs} runs")
    for what, figure in figures.items():
        table.add_row(what, f"{figure:.2f}" if figure < 100 else f"{figure:.0f}")
    Console(file=sys.stdout).print(table)


if __name__ == "__main__":
    main()
