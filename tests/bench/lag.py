"""Latency from the storage of an image to its document: ``python -m tests.bench.lag``.

The whole pipeline runs on this machine, images are stored at a steady rate, and the ages are those
that ``consumer_image_age_seconds`` counts: from the event's time to the document's.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from tests.support.images import line_image
from tests.support.pipeline import Client, open_client, open_pipeline

RATES = (1, 10, 30)
SECONDS = 60


async def measure(client: Client, rate: int, seconds: int) -> list[float]:
    """Store ``rate`` images a second; return their ages in seconds, sorted."""
    count = rate * seconds
    images = [line_image(f"Rate {rate} no {number}", font_size=20) for number in range(count)]
    prefix = f"rate-{rate}/"

    async def store(number: int, image: bytes) -> None:
        key = f"{prefix}{number}.png"
        await client.store.write(key, image, content_type="image/png", metadata={})

    began = time.monotonic()
    async with asyncio.TaskGroup() as uploads:
        for number, image in enumerate(images):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            uploads.create_task(store(number, image))
    where = {"key": {"$gte": prefix, "$lt": f"{prefix}~"}, "status": "predicted"}
    await client.count_reaches(count, where, seconds=300)
    return sorted(
        [
            (document["indexed_at"] - document["stored_at"]).total_seconds()
            async for document in client.database.images.find(where)
        ]
    )


async def run(rates: Sequence[int], seconds: int) -> list[dict[str, float]]:
    """Measure each rate on one pipeline, one after the other."""
    rows = []
    with TemporaryDirectory(prefix="docreco-lag-") as folder:
        async with open_pipeline(Path(folder)) as pipeline, open_client(pipeline) as client:
            for rate in rates:
                ages = await measure(client, rate, seconds)
                shares = statistics.quantiles(ages, n=100, method="inclusive")
                rows.append(
                    {
                        "images_per_second": rate,
                        "images": len(ages),
                        "p50_seconds": round(shares[49], 2),
                        "p99_seconds": round(shares[98], 2),
                        "max_seconds": round(ages[-1], 2),
                    }
                )
    return rows


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.lag", description=__doc__)
    parser.add_argument("--rates", type=int, nargs="+", default=RATES, help="images a second")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="how long each")
    parser.add_argument("--json", action="store_true", help="for machines")
    arguments = parser.parse_args()
    rows = asyncio.run(run(arguments.rates, arguments.seconds))
    console = Console()
    if arguments.json:
        console.print_json(json.dumps(rows))
        return
    table = Table(*rows[0], title="From stored to indexed")
    for row in rows:
        table.add_row(*(f"{value:g}" for value in row.values()))
    console.print(table)


if __name__ == "__main__":
    main()
