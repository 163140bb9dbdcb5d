"""A long list while programs are killed: ``python -m tests.bench.soak --urls N --kills K``.

The whole pipeline takes one list. On the way, spread evenly over it, services are killed between
two of their writes (``tests.chaos.windows``), and servers at any time (``kill -9``). In the end
each URL must have its object and its document, none twice, and no message may be parked. Objects
whose PUT was cut off by a kill of MinIO may have no event: one pass of the reconciler queues them.
Rate, processor time of an image and memory of the first fifth of the list are compared with those
of the last one.

The engine is a stub that answers at once; ``--engine rapidocr`` is the real one.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

from infra.local import supervisor
from infra.local.ports import pick_free_ports
from infra.local.supervisor import Program
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.rabbitmq.dead_letters import peek
from services.common.adapters.rabbitmq.retry_policy import FETCH_QUEUES, OCR_QUEUES, PAGE_QUEUES
from services.reconciler.passes import make_pass
from services.reconciler.settings import ReconcilerSettings
from tests.bench.lists import memory_mib
from tests.bench.pipeline import HOSTS, as_deployed, write_lines
from tests.bench.processes import cpu_seconds
from tests.chaos.faults import READY_WITHIN_SECONDS, wait_ready
from tests.chaos.invariant import handled_by_consumer, objects, parked
from tests.chaos.stage import with_windows
from tests.chaos.windows import CONSUMER, DONE_SUFFIX, FETCHER, Window, arm
from tests.support.ocr_api import ScriptedOcrApi, scripted_ocr_api
from tests.support.pipeline import Client, Pipeline, open_client, open_pipeline
from tests.support.static_site import host, static_site
from tests.support.waiting import eventually

LINES = 200
SERVERS = ("minio", "rabbitmq", "mongo")
WINDOWS = (
    Window.PAGE_PUBLISHED,
    Window.IMAGE_STORED,
    Window.DOCUMENT_WRITTEN,
    Window.ITEM_FINISHED,
)
"""That every list passes."""
POLL_SECONDS = 2.0
COUNT_SHARE = 10
"""Pause between two counts, in times of what the last one took."""
WINDOW_SECONDS = 20.0
"""For a program to pass a window."""
QUIET_SECONDS = 60.0
"""Without a new document: what is missing then has no event."""
LONGEST_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Sample:
    """Documents, memory and processor time at one moment."""

    at: float
    documents: int
    mib: dict[str, int]
    """Memory by program."""
    cpu: dict[int, tuple[str, float]]
    """Seconds that each process has used, with the name of its program."""


@dataclass
class Soak:
    """A list on its way, and the kills."""

    pipeline: Pipeline
    client: Client
    folder: Path
    """Of armed windows."""
    urls: int
    kills: int
    killed: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)

    async def run(self, urls: list[str], seed: int) -> dict[str, str]:
        """Submit the list, kill, wait, reconcile; return the figures."""
        began = time.monotonic()
        batch = await self.submit("\n".join(urls).encode())
        dice = Random(seed)  # noqa: S311  chosen to be repeatable
        steps = iter(range(1, self.kills + 1))
        victims = self._victims(dice)
        due = next(steps, None)
        documents, since, took = 0, time.monotonic(), 0.0
        while documents < self.urls and time.monotonic() - since < QUIET_SECONDS:
            await asyncio.sleep(max(POLL_SECONDS, COUNT_SHARE * took))
            counted = time.monotonic()
            now = await self._documents()
            took = time.monotonic() - counted
            self.samples.append(self.sample(now))
            documents, since = max(now, documents), time.monotonic() if now > documents else since
            if due is not None and documents >= due * self.urls / (self.kills + 1):
                await self._kill(next(victims))
                due, since = next(steps, None), time.monotonic()
        seconds = time.monotonic() - began
        await wait_ready(self.pipeline)
        counts = await self.client.completed(batch, seconds=LONGEST_SECONDS)
        assert counts["stored"] + counts["unchanged"] == self.urls, counts
        by_event = await self._documents()
        queued = await self._reconcile()
        return {
            "URLs": f"{self.urls:,}",
            "kills": ", ".join(f"{name} {count}" for name, count in sorted(self.killed.items())),
            "time, s": f"{seconds:.0f}",
            "images/s, kills included": f"{by_event / seconds:.1f}",
            "queued by the reconciler": f"{queued}",
            **await self._invariant(urls),
            **self._growth(),
        }

    async def submit(self, body: bytes) -> str:
        """Submit a list; return the batch's id."""
        kind = {"Content-Type": "text/plain"}
        async with self.client.fetcher.post("/batches", data=body, headers=kind) as response:
            assert response.status == 202, await response.text()
            return str((await response.json())["batch_id"])

    def _victims(self, dice: Random) -> Iterator[Window | str]:
        """Yield windows and servers in turns."""
        while True:
            yield dice.choice(WINDOWS)
            yield dice.choice(SERVERS)

    async def _kill(self, victim: Window | str) -> None:
        """Have a program killed, and wait until it is back."""
        before = len(self.pipeline.events)
        armed = self.folder / (victim.value.title if isinstance(victim, Window) else victim)
        if isinstance(victim, Window):
            arm(armed)
            name = {FETCHER: "fetcher", CONSUMER: "consumer"}[victim.value.module]
        else:
            name = victim
            self.pipeline.signal(name, signal.SIGKILL)

        async def is_back() -> bool:
            return f"{name} is ready again" in self.pipeline.events[before:]

        try:
            await eventually(is_back, seconds=WINDOW_SECONDS)
        except TimeoutError:
            if armed.exists():  # nothing passes there any longer: all are fetched
                armed.unlink()
                self.pipeline.signal(name, signal.SIGKILL)
            await eventually(is_back, seconds=READY_WITHIN_SECONDS)
        self.killed[name] += 1
        armed.with_name(f"{armed.name}{DONE_SUFFIX}").unlink(missing_ok=True)

    async def _documents(self) -> int:
        return await self.client.database.images.count({"status": "predicted"})

    async def _reconcile(self) -> int:
        """Have what is without an event queued; return how much that was."""
        report = await make_pass(
            ReconcilerSettings(min_age_seconds=0),
            store=self.client.store,
            images=ImageRepository(self.client.database.images),
            amqp=self.pipeline.amqp,
            queues=OCR_QUEUES,
        )
        await self.client.count_reaches(self.urls, {"status": "predicted"}, seconds=LONGEST_SECONDS)
        return report.queued

    async def _invariant(self, urls: list[str]) -> dict[str, str]:
        """Count what is lost, and what is there twice."""
        sources = Counter[str]()
        documents: dict[str, str] = {}
        fields = {"key": 1, "etag": 1, "sources": 1}
        async for each in self.client.database.images.find({}, fields=fields):
            documents[each["key"]] = each["etag"]
            sources.update(source["url"] for source in each["sources"])
        stored = await objects(self.client)
        handled = handled_by_consumer(self.pipeline)
        return {
            "lost": f"{len(set(urls) - sources.keys())}",
            "twice": f"{sum(count > 1 for count in sources.values())}",
            "objects without their document": f"{len(stored.items() - documents.items())}",
            "parked": await self._parked(),
            "duplicates suppressed": f"{handled['duplicate'] + handled['stale']}",
        }

    def sample(self, documents: int) -> Sample:
        """Return what the programs use now, but for those between two lives."""
        sample = Sample(time.monotonic(), documents, {}, {})
        for name in (*self.pipeline.programs, *SERVERS):
            with suppress(OSError, ValueError):
                pid = self.pipeline.supervisor.pid(name)
                sample.mib[name] = round(memory_mib(pid, "VmRSS"))
                sample.cpu[pid] = name, cpu_seconds(pid)
        return sample

    async def _parked(self) -> str:
        """Return how many messages are parked, and why the first ones of each queue are."""
        count = sum((await parked(self.pipeline)).values())
        found = [
            f"{queues.parked} {each.code}: {each.reason} ({each.subject}, attempt {each.attempts})"
            for queues in (OCR_QUEUES, FETCH_QUEUES, PAGE_QUEUES)
            for each in await peek(self.pipeline.amqp, queues, lambda _: True, limit=5)
        ]
        return "; ".join([f"{count}", *found])

    def _growth(self) -> dict[str, str]:
        """Compare the first fifth with the last one."""
        fifth = self.urls / 5
        early = [each for each in self.samples if each.documents <= fifth] or self.samples[:1]
        late = [each for each in self.samples if each.documents >= 4 * fifth]
        parts = [part for part in (early, late) if part and part[0].documents < part[-1].documents]
        rates = [
            (part[-1].documents - part[0].documents) / (part[-1].at - part[0].at) for part in parts
        ]
        costs = [cost_of(part) for part in parts]
        found = {"images/s, first / last fifth": " / ".join(f"{rate:.1f}" for rate in rates)}
        for name in sorted(early[-1].mib.keys() | late[-1].mib.keys()):
            memory = [part[-1].mib.get(name, 0) for part in (early, late)]
            highest = max(each.mib.get(name, 0) for each in self.samples)
            cost = " / ".join(f"{each[name]:.1f}" for each in costs)
            found[f"{name}: ms of an image; MiB; highest"] = (
                f"{cost}; {memory[0]} / {memory[1]}; {highest}"
            )
        return found


def cost_of(part: Sequence[Sample]) -> dict[str, float]:
    """Return the milliseconds of CPU of an image by program."""
    used: dict[str, float] = defaultdict(float)
    images = part[-1].documents - part[0].documents
    for before, after in pairwise(part):
        for pid, (name, seconds) in after.cpu.items():
            used[name] += 1000 * (seconds - before.cpu.get(pid, (name, 0.0))[1]) / images
    return used


@asynccontextmanager
async def soaking(urls: int, kills: int, *, has_stub: bool) -> AsyncIterator[tuple[Soak, int]]:
    """Run the pipeline with windows, and a site; yield them and the site's port."""
    with TemporaryDirectory(prefix="docreco-soak-") as folder:
        lines, windows = Path(folder) / "lines", Path(folder) / "windows"
        for each in (lines, windows):
            await asyncio.to_thread(each.mkdir)
        await asyncio.to_thread(write_lines, lines, min(LINES, urls), None)
        armed = with_windows(windows)
        port = pick_free_ports().samples_port
        async with scripted_ocr_api() if has_stub else nullcontext() as stub:

            def change(program: Program) -> Program:
                changed = as_deployed(armed(program))
                if isinstance(stub, ScriptedOcrApi) and program.name == "consumer":
                    url = {"CONSUMER_OCR_URL": str(stub.url)}
                    return replace(changed, env={**changed.env, **url})
                return changed

            with static_site(port, hosts=HOSTS, folder=lines):
                async with (
                    open_pipeline(Path(folder) / "pipeline", change=change) as pipeline,
                    open_client(pipeline) as client,
                ):
                    yield Soak(pipeline, client, windows, urls, kills), port


async def soak(urls: int, kills: int, *, has_stub: bool, seed: int) -> dict[str, str]:
    """Run all of it."""
    async with soaking(urls, kills, has_stub=has_stub) as (running, port):
        listed = [f"http://{host(number % HOSTS)}:{port}/{number}.png" for number in range(urls)]
        return await running.run(listed, seed)


def main() -> int:
    """Run the command line; return 1 if something was lost or is there twice."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description=__doc__)
    parser.add_argument("--urls", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--engine", choices=["stub", "rapidocr"], default="stub")
    parser.add_argument("--seed", type=int, default=0, help="decides who is killed")
    given = parser.parse_args()
    os.environ.setdefault("LOG_LEVEL", "info")  # the suppressed duplicates are counted in the log
    with patch.object(supervisor, "DEATHS_TO_GIVE_UP", 1000):
        figures = asyncio.run(
            soak(given.urls, given.kills, has_stub=given.engine == "stub", seed=given.seed)
        )
    table = Table("", "", title=f"soak, engine {given.engine}, seed {given.seed}")
    for name, figure in figures.items():
        table.add_row(name, figure)
    Console(file=sys.stdout).print(table)
    bad = ("lost", "twice", "objects without their document", "parked")
    return int(any(figures[name] != "0" for name in bad))


if __name__ == "__main__":
    sys.exit(main())
