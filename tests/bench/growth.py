"""Speed and memory by the number of documents: ``python -m tests.bench.growth``.

The whole pipeline, with a stub engine that answers at once, takes lists of one size while the
database has more and more documents. A row says how fast one list became documents, what an image
cost each process, the memory of each, and how long commands took. The documents are inserted, so
that 200,000 take minutes: they have no objects.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from infra.local.settings import child_environment
from tests.bench.pipeline import HOSTS
from tests.bench.review import TOGETHER, documents
from tests.bench.soak import Sample, Soak, cost_of, soaking
from tests.support.pipeline import Pipeline
from tests.support.static_site import host

SIZES = (10_000, 50_000, 200_000)
COMMANDS = (
    ("report",),
    ("images", "--limit", "20", "--worst-first"),
    ("suggest", "--limit", "20"),
    ("repredict", "--status", "predicted", "--model-version-not", "none", "--dry-run"),
    ("evaluate",),
)
COUNT_SHARE = 10
"""Pause between two counts, in times of what the last one took."""


async def grow(running: Soak, sizes: list[int]) -> AsyncIterator[int]:
    """Insert documents until the database has each of these numbers."""
    made, images = documents(max(sizes)), running.client.database.images
    has = 0
    for size in sizes:
        for _ in track(range((size - has) // TOGETHER), f"{size:,} documents"):
            await images.insert_missing([*islice(made, TOGETHER)])
        has = size
        yield size


async def take_list(running: Soak, port: int, first: int) -> tuple[float, Sample, Sample]:
    """Submit a list of images from a number on; return images a second, and two samples."""
    urls = [
        f"http://{host(number % HOSTS)}:{port}/{number}.png"
        for number in range(first, first + running.urls)
    ]
    before, began = running.sample(0), time.monotonic()
    batch = await running.submit("\n".join(urls).encode())
    done, took = 0, 0.0
    while done < running.urls:
        await asyncio.sleep(max(0.2, COUNT_SHARE * took))
        counted = time.monotonic()
        done = await running.client.database.images.count(
            {"sources.batch_id": batch, "status": "predicted"}
        )
        took = time.monotonic() - counted
    rate = running.urls / (time.monotonic() - began)
    return rate, before, running.sample(running.urls)


async def command(pipeline: Pipeline, *words: str) -> float:
    """Return the seconds of a command.

    Raises:
        RuntimeError: It failed.
    """
    environment = child_environment(
        {
            **pipeline.addresses.environment(),
            "DOCRECO_FETCHER_URL": pipeline.fetcher_url,
            "DOCRECO_OCR_URL": pipeline.ocr_url,
            "DOCRECO_CONSUMER_URL": pipeline.consumer_url,
        }
    )
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("docreco")), *words, "--json"),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    if process.returncode not in {0, 1}:
        raise RuntimeError(f"docreco {' '.join(words)}: {errors.decode()}")
    return time.monotonic() - began


@asynccontextmanager
async def measured(
    urls: int, sizes: list[int], rounds: int
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """Run the pipeline; yield a row for each size."""
    async with soaking(urls, 0, has_stub=True) as (running, port):

        async def rows() -> AsyncIterator[dict[str, Any]]:
            numbers = count(step=urls)
            await take_list(running, port, next(numbers))
            async for size in grow(running, sizes):
                taken = [await take_list(running, port, next(numbers)) for _ in range(rounds)]
                costs = [cost_of(samples) for _, *samples in taken]
                seconds = {each[0]: await command(running.pipeline, *each) for each in COMMANDS}
                yield {
                    "documents": size,
                    "images/s": statistics.median(rate for rate, *_ in taken),
                    "ms": {
                        name: statistics.median(each[name] for each in costs)
                        for name in sorted(costs[0])
                    },
                    "MiB": taken[-1][2].mib,
                    "seconds": seconds,
                }

        yield rows()


async def run(urls: int, sizes: list[int], rounds: int, out: Path) -> list[dict[str, Any]]:
    """Measure all sizes, and write what is there after each."""
    found = []
    async with measured(urls, sizes, rounds) as rows:
        async for row in rows:
            found.append(row)
            await asyncio.to_thread(out.write_text, json.dumps(found, indent=2))
    return found


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growth", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="DOCUMENTS")
    parser.add_argument("--urls", type=int, default=1000, help="of a list")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("growth.json"))
    given = parser.parse_args()
    os.environ.setdefault("LOG_LEVEL", "warning")
    rows = asyncio.run(run(given.urls, sorted(given.sizes), given.rounds, given.out))
    table = Table("", *(f"{row['documents']:,}" for row in rows), title="by documents")
    table.add_row("images/s", *(f"{row['images/s']:.1f}" for row in rows))
    for part, unit in (("ms", "ms of an image"), ("MiB", "MiB"), ("seconds", "s of the command")):
        for name in rows[0][part]:
            table.add_row(f"{name}, {unit}", *(f"{row[part].get(name, 0.0):.1f}" for row in rows))
    Console().print(table)


if __name__ == "__main__":
    main()
