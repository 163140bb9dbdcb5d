"""Final invariant: nothing lost, nothing twice, every document as without a fault."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from io import BytesIO
from typing import Any

import aio_pika
from aiohttp import ClientSession, FormData
from PIL import Image

from services.common.adapters.mongo import Document
from services.common.adapters.rabbitmq.retry_policy import FETCH_QUEUES, OCR_QUEUES, PAGE_QUEUES
from services.common.domain.keys import lines_prefix
from tests.chaos.load import LINES_OF_PAGE, Load
from tests.chaos.stage import Stage
from tests.support.pipeline import Client, Pipeline

UNROUTED = ("raw.unrouted", "pages.unrouted")


async def check(stage: Stage, load: Load) -> dict[str, Any]:
    pipeline, client = stage.pipeline, stage.client
    documents = {each["key"]: each async for each in client.database.images.find({})}
    images = {**load.images, **await check_pages(client, load)}
    missing = images.keys() - documents.keys()
    assert await parked(pipeline) == {}
    assert documents.keys() == images.keys(), f"{len(missing)} lost"
    assert await objects(client) == {key: each["etag"] for key, each in documents.items()}
    expected = await fault_free(pipeline, images)
    assert {key: as_read(each) for key, each in documents.items()} == expected
    for key, url in load.urls.items():
        if key in load.images:
            assert [source["url"] for source in documents[key]["sources"]] == [url]
    annotations = {key: each["annotation"] for key, each in documents.items()}
    texts = {key: said["text"] for key, said in annotations.items() if said is not None}
    assert texts == stage.annotations
    handled = handled_by_consumer(pipeline)
    return {
        "stored": len(documents),
        "pages": len(load.pages),
        "predictions": handled["predicted"],
        "duplicates suppressed": handled["duplicate"] + handled["stale"],
        "lost": len(missing),
    }


async def check_pages(client: Client, load: Load) -> dict[str, bytes]:
    """Check that each page has its lines once; return their images by key."""
    pages = {each["key"]: each async for each in client.database.pages.find({})}
    assert pages.keys() == load.pages.keys()
    lines = {}
    for key, page in pages.items():
        assert page["status"] == "segmented", page
        urls = {load.urls[key]} if key in load.urls else set()
        assert {source["url"] for source in page["sources"] if source.get("url")} == urls
        prefix = lines_prefix(sha256(load.pages[key]).hexdigest())
        keys = {f"{prefix}{line['id']}.webp" for line in page["lines"]}
        assert len(keys) == len(page["lines"]) == LINES_OF_PAGE, page
        assert {line["key"] for line in page["lines"]} == keys
        stored = client.store.list(prefix)
        assert {info.key async for info in stored} == keys
        of_page = client.database.images.find({"page.id": page["_id"]})
        assert sorted([image["key"] async for image in of_page]) == sorted(keys)
        for each in keys:
            lines[each] = (await client.store.read(each, max_bytes=10**7)).content
    return lines


def as_read(document: Document) -> tuple[str, str, float, str]:
    prediction = document["prediction"]
    return (
        document["status"],
        prediction["text"],
        round(prediction["score"], 4),
        prediction["model_version"],
    )


async def fault_free(
    pipeline: Pipeline, images: Mapping[str, bytes]
) -> dict[str, tuple[str, str, float, str]]:
    """Request each line, of which some images are copies, from the undisturbed API."""
    lines = {key: pixels(image) for key, image in images.items()}
    slots = asyncio.Semaphore(4)
    headers = {"X-DocReco-Collect": "no"}
    async with ClientSession(pipeline.ocr_url, headers=headers) as session:

        async def ask(image: bytes) -> tuple[str, str, float, str]:
            form = FormData()
            form.add_field("file", image, filename="image")
            async with slots, session.post("/predict", data=form) as response:
                answer = await response.json()
                return (
                    "predicted",
                    answer["text"],
                    round(answer["score"], 4),
                    answer["model_version"],
                )

        copies = {lines[key]: image for key, image in images.items()}
        answers = await asyncio.gather(*(ask(image) for image in copies.values()))
    read = dict(zip(copies, answers, strict=True))
    return {key: read[line] for key, line in lines.items()}


def pixels(image: bytes) -> tuple[tuple[int, int], bytes]:
    with Image.open(BytesIO(image)) as opened:
        return opened.size, opened.tobytes()


async def objects(client: Client) -> dict[str, str]:
    found = {}
    pages = client.store.client.get_paginator("list_objects_v2")
    async for page in pages.paginate(Bucket=client.store.bucket):
        for each in page.get("Contents", []):
            found[each["Key"]] = each["ETag"].strip('"')
    return found


async def parked(pipeline: Pipeline) -> dict[str, int]:
    """Return the depths of the queues in which something ended, where that is not 0."""
    names = (OCR_QUEUES.parked, FETCH_QUEUES.parked, PAGE_QUEUES.parked, *UNROUTED)
    depths = {name: await depth(pipeline, name) for name in names}
    return {name: depth for name, depth in depths.items() if depth}


async def depth(pipeline: Pipeline, queue: str) -> int:
    connection = await aio_pika.connect(str(pipeline.amqp.url))
    async with connection, connection.channel() as channel:
        declared = await channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0


def handled_by_consumer(pipeline: Pipeline) -> Counter[str]:
    """Count what the consumer logged of each event, over all its lives."""
    log_path = pipeline.programs["consumer"].log_path
    codes: Counter[str] = Counter()
    for path in (log_path, log_path.with_name(f"{log_path.name}.1")):
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # cut off by a kill
            if entry.get("event") == "event handled":
                codes[entry["code"]] += 1
    return codes


async def explain(pipeline: Pipeline, client: Client) -> str:
    """Say where things stand, for a person who reads a failure."""
    lines = []
    async with ClientSession() as session:
        for url in pipeline.service_urls:
            async with session.get(f"{url}/readyz") as response:
                lines.append(f"{url}/readyz {response.status} {await response.text()}")
    queued = client.database.fetches.find({"outcome": "queued"}, limit=5)
    lines += [f"still queued: {item}" async for item in queued]
    lines += [f"batch: {batch}" async for batch in client.database.batches.find({})]
    names = (
        *FETCH_QUEUES.partitions,
        *FETCH_QUEUES.delays,
        FETCH_QUEUES.parked,
        "ocr.jobs",
        "pages.jobs",
    )
    lines += [f"{name}: {await depth(pipeline, name)}" for name in names]
    lines += [each.log_path.read_text()[-3000:] for each in pipeline.programs.values()]
    return "\n".join(lines)
