"""Speed of the review page with many documents: ``python -m tests.bench.review``.

It needs MinIO, RabbitMQ and MongoDB (the environment names them) and fills a database of its own,
which it drops unless told to keep it; what an earlier run kept is measured again. A fetcher shows
the batches: as many items as there are images.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient
from rich.console import Console
from rich.table import Table

from services.common.adapters.mongo import Database, Document, open_database
from services.common.adapters.object_store import open_object_store
from services.common.domain.accuracy import similarity
from services.common.domain.batch import page_id
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from services.fetcher.batches.item_repository import fetch_id
from tests.support.fetcher import open_surroundings, running_fetcher
from tests.support.review import NOW, Person, known, open_review
from tests.support.waiting import eventually

DATABASE = "bench-review"
BUCKETS = {
    "bucket": DATABASE,
    "pages_bucket": f"{DATABASE}-pages",
    "submitted_bucket": f"{DATABASE}-submitted",
}
TOGETHER = 500
BATCHES = 100
PATHS = (
    "/",
    *("/queue", "/queue?mode=random", "/queue?host=host-7.example", "/queue?batch=b3"),
    *("/queue?mode=disagreement", "/queue?mode=disagreement&batch=b5", "/queue?mode=suspects"),
    *("/queue?mode=decide", "/gallery?double=twice", "/gallery?order=worst&errors=some"),
    *("/queue/progress", "/queue/progress?collection=c3"),
    "/queue?mode=disagreement&batch=b3",  # where no image is wanted
    *("/batches", "/batches?cursor=b50", "/batches/b3"),
    *("/gallery", "/gallery?order=worst", "/gallery?order=best"),
    *("/gallery?low=0.4&high=0.5&order=worst", "/gallery?annotated=yes"),
    *("/gallery?collection=c3", "/gallery?collection=c3&order=worst", "/queue?collection=c3"),
    *("/gallery?collection=few", "/gallery?collection=few&order=best", "/queue?collection=few"),
    *("/gallery?collection=c3&q=number+7", "/gallery?group=page+50", "/queue?group=page+50"),
    *("/gallery?where=metadata.year%3D1916", "/gallery?batch=b3", "/quality?collection=few"),
    *("/gallery?host=host-7.example", "/gallery?batch=b3&order=worst", "/gallery?q=number+7"),
    *("/gallery?status=rejected", "/gallery?q=nowhere", "/image?id=raw/1234.png", "/quality"),
)


def documents(count: int) -> Iterator[Document]:
    """Yield images like those of some weeks: a tenth annotated, a hundredth rejected.

    A tenth was read by two versions, which disagree about a fifth of it.
    """
    chance = random.Random(7)  # noqa: S311  nothing secret
    now = datetime.now(tz=UTC)
    for number in range(count):
        source = {
            "url": f"https://host-{number % 50}.example/{number}.png",
            "batch_id": f"b{number % 20}",
            "fetched_at": NOW,
            "collection": f"c{number % 4}" if number % 1000 else "few",
            "name": f"lines/{number}.png",
            "group": f"page {number // 40}",
            "metadata": {"year": 1900 + number % 97},
        }
        text = f"line number {number} of many"
        note = {"text": text, "quality": "ok", "by": "ada", "at": NOW}
        changes: dict[str, Any] = {
            "key": f"{number}.png",
            "sources": [source],
            "indexed_at": now - timedelta(seconds=20 * number),
        }
        if number % 10 == 0:
            changes["annotation"] = note if number % 50 else note | {"text": text.upper()}
        if number % 100 == 0:
            second, is_read = note | {"by": "eve", "text": text[1:]}, number % 200 == 0
            readings = [note, second] if is_read else [note]
            state = "different" if is_read else "waiting"
            changes["double_reading"] = {"state": state, "readings": readings}
        if number % 10 == 5:
            other = text[chance.randrange(1, len(text)) :] if number % 50 == 5 else text
            reading = {"text": other, "score": 0.5, "engine": "rapidocr", "model_version": "0"}
            changes["history"] = [reading | {"predicted_at": NOW}]
            changes["disagreement"] = 1 - similarity(other, text) or None
        if number % 100 == 99:
            error = {"code": "undecodable_image", "detail": "not an image"}
            changes |= {"status": "rejected", "prediction": None, "error": error}
        yield known(text, chance.betavariate(5, 2), **changes)


def batches(count: int) -> Iterator[Document]:
    """Yield batches that are done, of ``count`` items together, a tenth of which failed."""
    size = count // BATCHES
    for number in range(BATCHES):
        yield {
            "_id": f"b{number}",
            "name": f"list {number}",
            "list_url": None,
            "created_at": NOW - timedelta(hours=number),
            "loaded": True,
            "accepted": size,
            "cancelled_at": None,
            "requeue": None,
            "dispatch": {"version": 1, "done": True},
            "pages": {
                "count": 1,
                "next": 1,
                "counted": [0],
                "kept": {"stored": size - size // 10, "failed": size // 10},
                "failure_codes": {"http_404": size // 10},
                "size_bytes": size,
                "finished_at": NOW,
            },
        }


def items(count: int) -> Iterator[Document]:
    """Yield the items of those batches."""
    for number in range(count):
        batch_id, has_failed = f"b{number % BATCHES}", number // BATCHES % 10 == 0
        yield {
            "_id": fetch_id(batch_id, number),
            "batch_id": batch_id,
            "page": page_id(batch_id, 0),
            "url": f"https://host-{number % 50}.example/{number}.png",
            "outcome": "failed" if has_failed else "stored",
            "code": "http_404" if has_failed else None,
            "detail": None,
            "key": None,
            "attempts": 1,
            "finished_at": NOW,
        }


async def fill(database: Database, count: int) -> None:
    """Insert the documents, unless they are there, and make the indexes."""
    await database.create_indexes()
    if await database.images.find_one({"_id": f"raw/{count - 1}.png"}):
        return
    for collection, made in (
        (database.batches, batches(count)),
        (database.fetches, items(count)),
        (database.images, documents(count)),
    ):
        while some := list(islice(made, TOGETHER)):
            await collection.insert_missing(some)


async def measure(person: Person, path: str, repeats: int) -> dict[str, Any]:
    """Return how long a page took, and how long until its search was finished, in milliseconds."""
    first, whole = [], []
    for _ in range(repeats):
        begun = time.perf_counter()
        html = await person.open(path)
        first.append((time.perf_counter() - begun) * 1000)
        await person.finish(html)
        whole.append((time.perf_counter() - begun) * 1000)
    return _row(path, first, statistics.median(whole))


def _row(page: str, times: list[float], whole: float | None = None) -> dict[str, Any]:
    median = statistics.median(times)
    return {
        "page": page,
        "median_ms": median,
        "max_ms": max(times),
        "whole_ms": median if whole is None else whole,
    }


async def answer(person: Person, repeats: int) -> dict[str, Any]:
    """Return how long an image takes from Enter to the next one, in milliseconds."""
    task, times = await person.see("/queue"), []
    for _ in range(repeats):
        begun = time.perf_counter()
        task = await person.do(task, "save")
        times.append((time.perf_counter() - begun) * 1000)
    return _row("(Enter)", times)


async def run(count: int, repeats: int, *, keeps: bool) -> list[dict[str, Any]]:
    """Fill, measure, drop."""
    settings = MongoSettings()
    mongo = settings.model_copy(update={"database": DATABASE})
    client: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(str(settings.url))
    s3, amqp = S3Settings().model_copy(update=BUCKETS), AmqpSettings()
    try:
        async with open_database(mongo) as database:
            await fill(database, count)
        async with (
            open_surroundings(s3, amqp, mongo) as around,
            running_fetcher(around) as fetcher,
            open_review(
                *(s3, mongo, amqp),
                fetcher_url=str(fetcher._base_url),
                quality_refresh_seconds=3600,
            ) as site,
            site.person() as person,
        ):
            begun = time.perf_counter()

            async def is_counted() -> bool:
                return "images were read" in await person.see("/quality")

            await eventually(is_counted, seconds=600)
            counted = (time.perf_counter() - begun) * 1000
            rows = [await measure(person, path, repeats) for path in PATHS]
            rows.append(await answer(person, repeats))
            return [*rows, _row("(count of all)", [counted])]
    finally:
        async with open_object_store(s3) as store:
            for bucket in BUCKETS.values():  # nothing was stored in them
                await store.client.delete_bucket(Bucket=bucket)
        if not keeps:
            await client.drop_database(DATABASE)
        client.close()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.review", description=__doc__)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=15, help="of each page")
    parser.add_argument("--keep", action="store_true", help="do not drop the database")
    parser.add_argument("--json", action="store_true", help="for machines")
    arguments = parser.parse_args()
    rows = asyncio.run(run(arguments.documents, arguments.repeats, keeps=arguments.keep))
    console = Console()
    if arguments.json:
        console.print_json(json.dumps(rows))
        return
    table = Table(*rows[0], title=f"{arguments.documents} documents")
    for row in rows:
        table.add_row(row["page"], *(f"{each:.0f}" for each in list(row.values())[1:]))
    console.print(table)


if __name__ == "__main__":
    main()
