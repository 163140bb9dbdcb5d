"""How fast an export is and how its memory grows: ``python -m tests.bench.export``.

Small images are stored with their documents in servers of this machine alone, and exported once
in each layout by a process of its own; memory is that process's largest resident size.
"""

import argparse
import asyncio
import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import HttpUrl, MongoDsn
from rich.console import Console
from rich.table import Table

from infra.local.stack import Addresses
from services.common.index import Database, open_index
from services.common.object_store import ObjectStore, open_object_store
from services.common.settings import MongoSettings, S3Settings
from services.datasets.export import Sources, export
from services.datasets.manifest import Format, Query
from tests.support.datasets import STORED_AT, annotation, prediction
from tests.support.images import png_header
from tests.support.servers import real_servers

BUCKET = "bench-export"
AT_ONCE = 32


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


async def fill(store: ObjectStore, index: Database, count: int) -> None:
    """Store ``count`` different images with their documents."""
    await store.client.create_bucket(Bucket=store.bucket)
    for begin in range(0, count, AT_ONCE):
        numbers = range(begin, min(count, begin + AT_ONCE))
        await asyncio.gather(*(_store(store, index, number) for number in numbers))


async def _store(store: ObjectStore, index: Database, number: int) -> None:
    content = png_header(200, 40) + f"{number}".encode()
    key = f"{number % 100:02}/{number}.png"
    etag = await store.write(key, content, content_type="image/png", metadata={})
    await index.images.insert(
        {
            "_id": f"{store.bucket}/{key}",
            "bucket": store.bucket,
            "key": key,
            "etag": etag,
            "sha256": hashlib.sha256(content).hexdigest(),
            "status": "predicted",
            "stored_at": STORED_AT,
            "sources": [{"url": f"https://host-{number % 100}.example/{number}"}],
            "prediction": prediction(f"line {number}"),
            "annotation": annotation(f"line {number}") if number % 2 else None,
        }
    )


def measure(addresses: Addresses, layout: Format, folder: str) -> dict[str, float | str]:
    """Export once; return images a second, and by how many MB this process has grown."""
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
    }


async def _export(addresses: Addresses, layout: Format, out: Path) -> int:
    s3, mongo = settings_of(addresses)
    async with open_object_store(s3) as store, open_index(mongo) as index:
        query = Query(format=layout, bucket=BUCKET)
        manifest = await export(query, Sources(index.images, store), out, lambda *_: None)
        return manifest.images


def _largest_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _fill(addresses: Addresses, count: int) -> None:
    s3, mongo = settings_of(addresses)
    async with open_object_store(s3) as store, open_index(mongo) as index:
        await fill(store, index, count)


def run(counts: Sequence[int], layouts: Sequence[Format]) -> list[dict[str, float | str]]:
    """Measure each layout with each number of images, every time in a process of its own."""
    rows = []
    for count in counts:
        with real_servers() as addresses, TemporaryDirectory(prefix="docreco-export-") as folder:
            asyncio.run(_fill(addresses, count))
            for layout in layouts:
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                    rows.append(process.submit(measure, addresses, layout, folder).result())
    return rows


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.export", description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 5000], help="how many")
    parser.add_argument("--formats", type=Format, nargs="+", default=[Format.HF, Format.PARQUET])
    parser.add_argument("--json", action="store_true", help="for machines")
    arguments = parser.parse_args()
    if any(name.startswith("TEST_") for name in os.environ):
        sys.exit("servers of its own are measured: unset TEST_*")
    rows = run(arguments.images, arguments.formats)
    console = Console()
    if arguments.json:
        console.print_json(json.dumps(rows))
        return
    table = Table(*rows[0], title="Exports")
    for row in rows:
        table.add_row(*map(str, row.values()))
    console.print(table)


if __name__ == "__main__":
    main()
