"""Images enter while every program of the pipeline is killed, frozen and restarted.

``pytest tests/chaos`` runs the short form, ``--chaos=long`` the long one; ``--chaos-seed`` repeats
an order of faults.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aiohttp import ClientSession, FormData
from PIL import Image

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Document
from services.common.adapters.rabbitmq.settlement import FETCH_QUEUES, OCR_QUEUES
from services.reconciler.settings import ReconcilerSettings
from services.reconciler.walk import make_pass
from tests.chaos.faults import inflict, schedule, wait_ready
from tests.chaos.load import Load, bring_in
from tests.support.pipeline import SITE_ADDRESS, Client, Pipeline, open_client, open_pipeline
from tests.support.waiting import eventually
from tests.support.web import open_site

pytestmark = pytest.mark.e2e

FORMS = {"short": (500, 6, 60.0), "long": (2000, 30, 400.0)}
"""Images, faults, and the seconds over which the images enter."""
UNROUTED = "raw.unrouted"


async def test_every_image_has_its_document_whatever_fails(
    tmp_path: Path, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    count, faults, spread = FORMS[pytestconfig.getoption("chaos")]
    seed = int(pytestconfig.getoption("chaos_seed"))
    async with (
        open_pipeline(tmp_path) as pipeline,
        open_client(pipeline) as client,
        open_site(SITE_ADDRESS) as site,
    ):
        log: list[str] = []
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail(pipeline, seed, faults, log))
            loading = bring_in(client, site, count=count, seed=seed, spread=spread)
            load_task = tasks.create_task(loading)
        load = load_task.result()
        try:
            await wait_ready(pipeline)
            await batches_end(client, load)
        except TimeoutError:
            pytest.fail("\n".join([f"seed {seed}", *log, await explain(pipeline, client)]))
        await documents_come(client, load)
        by_event = await client.index.images.count({})
        queued = await reconcile(pipeline, client)
        await documents_come(client, load)
        report = await check(pipeline, client, load)
        report |= {"indexed by event": by_event, "queued by the reconciler": queued}
    with capsys.disabled():
        print_report(seed, log, report)


async def fail(pipeline: Pipeline, seed: int, count: int, log: list[str]) -> None:
    begin = time.monotonic()
    for fault in schedule(seed, count):
        await asyncio.sleep(fault.pause_seconds)
        at = time.monotonic() - begin
        await inflict(fault, pipeline)
        log.append(f"{at:6.1f} s  {fault.title}, back after {time.monotonic() - begin - at:.1f} s")


async def batches_end(client: Client, load: Load) -> None:
    for batch in load.batches:
        counts = await client.completed(batch, seconds=240)
        assert counts["stored"] + counts["unchanged"] == sum(counts.values()), counts


async def reconcile(pipeline: Pipeline, client: Client) -> int:
    """Make the pass that may be needed: MinIO, killed in a PUT, can keep it without an event."""
    settings = ReconcilerSettings(min_age_seconds=0)
    report = await make_pass(
        settings,
        store=client.store,
        images=ImageRepository(client.index.images),
        amqp=pipeline.amqp,
        queues=OCR_QUEUES,
    )
    return report.queued


async def explain(pipeline: Pipeline, client: Client) -> str:
    """Say where things stand, for a person who reads a failure."""
    lines = []
    async with ClientSession() as session:
        for url in (pipeline.ocr_url, pipeline.fetcher_url, pipeline.consumer_url):
            async with session.get(f"{url}/readyz") as response:
                lines.append(f"{url}/readyz {response.status} {await response.text()}")
    queued = client.index.fetches.find({"outcome": "queued"}, limit=5)
    lines += [f"still queued: {item}" async for item in queued]
    lines += [f"batch: {batch}" async for batch in client.index.batches.find({})]
    names = (*FETCH_QUEUES.partitions, *FETCH_QUEUES.delays, FETCH_QUEUES.parked, "ocr.jobs")
    lines += [f"{name}: {await depth(pipeline, name)}" for name in names]
    lines += [each.log_path.read_text()[-3000:] for each in pipeline.programs.values()]
    return "\n".join(lines)


async def documents_come(client: Client, load: Load) -> None:
    """Wait until no document is missing, or nothing more comes."""
    last, since = -1, time.monotonic()

    async def nothing_more() -> bool:
        nonlocal last, since
        now = await client.index.images.count({"status": "predicted"})
        if now != last:
            last, since = now, time.monotonic()
        return now >= len(load.images) or time.monotonic() - since > 45

    await eventually(nothing_more, seconds=600)


async def check(pipeline: Pipeline, client: Client, load: Load) -> dict[str, Any]:
    documents = {each["key"]: each async for each in client.index.images.find({})}
    missing = load.images.keys() - documents.keys()
    assert await parked(pipeline) == {}
    assert documents.keys() == load.images.keys(), f"{len(missing)} lost"
    assert await objects(client) == {key: each["etag"] for key, each in documents.items()}
    expected = await fault_free(pipeline, load.images)
    assert {key: as_read(each) for key, each in documents.items()} == expected
    for key, url in load.urls.items():
        assert [source["url"] for source in documents[key]["sources"]] == [url]
    handled = handled_by_consumer(pipeline)
    return {
        "stored": len(documents),
        "predictions": handled["predicted"],
        "duplicates suppressed": handled["duplicate"] + handled["stale"],
        "lost": len(missing),
    }


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
    """Ask the API in peace about each line, of which some images are copies."""
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
    names = (OCR_QUEUES.parked, FETCH_QUEUES.parked, UNROUTED)
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
            if entry.get("event") == "handled":
                codes[entry["code"]] += 1
    return codes


def print_report(seed: int, log: list[str], report: Mapping[str, Any]) -> None:
    lines = [f"chaos, seed {seed}", *log, *(f"{name}: {value}" for name, value in report.items())]
    print("\n" + "\n".join(lines))  # noqa: T201  the figures are what this test is run for
