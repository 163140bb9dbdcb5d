"""Speed and memory growth of an export: ``python -m tests.bench.export``.

Small images are stored with their documents in servers of this machine alone, and exported once
in each layout by a process of its own; memory is that process's largest resident size. 100,000 of
them take 2 GB of the folder for temporary files, and an hour or more.
"""

import argparse
import asyncio
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from aiohttp import ClientSession, TCPConnector
from pydantic import HttpUrl, MongoDsn
from rich.console import Console
from rich.table import Table

from infra.local.stack import Addresses
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Database, Document, open_database
from services.common.adapters.object_store import ObjectStore, open_object_store, sibling
from services.common.runtime.settings import MongoSettings, S3Settings
from services.datasets.export import ExportSources, export
from services.datasets.manifest import ExportQuery, Format
from tests.support.datasets import STORED_AT, annotation, prediction
from tests.support.images import png_header
from tests.support.servers import real_servers

BUCKET = "bench-export"
AT_ONCE = 32
TOGETHER = 200


def settings_of(addresses: Addresses) -> tuple[S3Settings, MongoSettings]:
    """Return where the servers are."""
    s3 = S3Settings(
        endpoint_url=HttpUrl(addresses.s3_endpoint_url),
        access_key_id=addresses.s3_access_key_id,
        secret_access_key=addresses.s3_secret_access_key,
        bucket=BUCKET,
    )
    url = MongoDsn(addresses.mongo_url.get_secret_value())
    return s3, MongoSettings(url=url, database=BUCKET)


async def prepare(store: ObjectStore, database: Database) -> None:
    """Make a bucket that takes objects from anybody: signing each costs more than storing it."""
    await store.client.create_bucket(Bucket=store.bucket)
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{store.bucket}/*",
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    await store.client.put_bucket_policy(Bucket=store.bucket, Policy=json.dumps(policy))
    await database.create_indexes()


async def fill(bucket: ClientSession, database: Database, numbers: range) -> None:
    """Store different images, one for each number, with their documents."""
    for begin in range(numbers.start, numbers.stop, TOGETHER):
        some = range(begin, min(numbers.stop, begin + TOGETHER))
        documents = await asyncio.gather(*(_store(bucket, number) for number in some))
        await database.images.insert_missing(documents)


async def _store(bucket: ClientSession, number: int) -> Document:
    content = png_header(200, 40) + f"{number}".encode()
    key = f"{number % 100:02}/{number}.png"
    async with bucket.put(key, data=content, headers={"Content-Type": "image/png"}) as response:
        response.raise_for_status()
        etag = response.headers["ETag"].strip('"')
    return {
        "_id": f"{BUCKET}/{key}",
        "bucket": BUCKET,
        "key": key,
        "etag": etag,
        "sha256": hashlib.sha256(content).hexdigest(),
        "status": "predicted",
        "stored_at": STORED_AT,
        "sources": [{"url": f"https://host-{number % 100}.example/{number}"}],
        "prediction": prediction(f"line {number}"),
        "annotation": annotation(f"line {number}") if number % 2 else None,
    }


def measure(addresses: Addresses, layout: Format, folder: str) -> dict[str, float | str]:
    """Export once; return images a second, and the MB of this process: growth and peak."""
    before = _largest_mb()
    began = time.monotonic()
    images = asyncio.run(_export(addresses, layout, Path(folder) / layout))
    seconds = time.monotonic() - began
    return {
        "layout": layout.value,
        "images": images,
        "seconds": round(seconds, 1),
        "images_per_second": round(images / seconds, 1),
        "growth_mb": round(_largest_mb() - before, 1),
        "peak_mb": round(_largest_mb(), 1),
    }


async def _export(addresses: Addresses, layout: Format, out: Path) -> int:
    s3, mongo = settings_of(addresses)
    async with open_object_store(s3) as store, open_database(mongo) as database:
        query = ExportQuery(format=layout, bucket=BUCKET)
        manifest = await export(
            query,
            ExportSources(ImageRepository(database.images), store, sibling(store, "pages")),
            out,
            lambda *_: None,
        )
        return manifest.images


def _largest_mb() -> float:
    # Not getrusage: there a process begins with the size of the one that has started it
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


async def _prepare(addresses: Addresses) -> None:
    s3, mongo = settings_of(addresses)
    async with open_object_store(s3) as store, open_database(mongo) as database:
        await prepare(store, database)


async def _fill(addresses: Addresses, numbers: range) -> None:
    s3, mongo = settings_of(addresses)
    address = f"{addresses.s3_endpoint_url.rstrip('/')}/{s3.bucket}/"
    connector = TCPConnector(limit=AT_ONCE)
    async with (
        ClientSession(address, connector=connector) as bucket,
        open_database(mongo) as database,
    ):
        await fill(bucket, database, numbers)


def run(counts: Sequence[int], layouts: Sequence[Format]) -> Iterator[dict[str, float | str]]:
    """Measure each layout with each number of images, every time in a process of its own."""
    with real_servers() as addresses:
        asyncio.run(_prepare(addresses))
        for before, count in pairwise((0, *sorted(counts))):
            asyncio.run(_fill(addresses, range(before, count)))
            for layout in layouts:
                with (
                    TemporaryDirectory(prefix="docreco-export-") as folder,
                    ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process,
                ):
                    yield process.submit(measure, addresses, layout, folder).result()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.export", description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 5000], help="how many")
    parser.add_argument("--formats", type=Format, nargs="+", default=[Format.HF, Format.PARQUET])
    parser.add_argument("--json", action="store_true", help="for machines, a line each")
    arguments = parser.parse_args()
    if any(name.startswith("TEST_") for name in os.environ):
        sys.exit("servers of its own are measured: unset TEST_*")
    rows = run(arguments.images, arguments.formats)
    if arguments.json:
        for row in rows:
            sys.stdout.write(json.dumps(row) + "\n")
            sys.stdout.flush()
        return
    first, *rest = rows
    table = Table(*first, title="Exports")
    for row in (first, *rest):
        table.add_row(*map(str, row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
