"""``docreco reconcile``, ``repredict``, ``forget`` and ``parked`` as a person gives them."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aio_pika
import pytest

from services.cli.errors import ExitStatus
from services.common.adapters.mongo import Database, Document, open_database
from services.common.adapters.object_store import ObjectStore, open_object_store, sibling
from services.common.adapters.rabbitmq.messaging import Publisher, open_publisher
from services.common.adapters.rabbitmq.retry_policy import (
    FETCH_QUEUES,
    OCR_QUEUES,
    PAGE_QUEUES,
    REPREDICT_QUEUES,
    Delivery,
    decide_retry,
)
from services.common.domain.errors import InvalidEventError
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from tests.support.commands import docreco
from tests.support.pages import line_boxes, page_file
from tests.support.servers import environment_of
from tests.support.waiting import eventually

QUEUES = {
    OCR_QUEUES.work,
    OCR_QUEUES.parked,
    REPREDICT_QUEUES.work,
    PAGE_QUEUES.work,
    PAGE_QUEUES.parked,
    FETCH_QUEUES.partitions[0],
    FETCH_QUEUES.parked,
}


@dataclass
class Site:
    """A bucket, a database and a virtual host that the commands find through their settings."""

    store: ObjectStore
    database: Database
    publisher: Publisher

    async def park(self, *bodies: bytes, queue: str = OCR_QUEUES.parked) -> None:
        for body in bodies:
            disposition = decide_retry(
                InvalidEventError("Records: missing"), Delivery(body), OCR_QUEUES
            )
            await self.publisher.publish(body, queue=queue, headers=disposition.headers)

    async def predicted(self, key: str) -> None:
        now = datetime.now(tz=UTC)
        await self.database.images.insert(
            {
                "_id": f"{self.store.bucket}/{key}",
                "key": key,
                "etag": "e1",
                "status": "predicted",
                "prediction": {"model_version": "v1", "predicted_at": now},
                "sequencer": "1",
            }
        )


@pytest.fixture
async def site(
    s3_settings: S3Settings,
    mongo_settings: MongoSettings,
    private_amqp_settings: AmqpSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Site]:
    environment = environment_of(s3_settings, mongo_settings, private_amqp_settings)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    connection = await aio_pika.connect(str(private_amqp_settings.url))
    async with connection, connection.channel() as channel:
        for queue in QUEUES:
            await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"})
        hosts = await channel.declare_exchange(
            FETCH_QUEUES.exchange, "x-consistent-hash", durable=True
        )
        await (await channel.get_queue(FETCH_QUEUES.partitions[0])).bind(hosts, "1")
    async with (
        open_object_store(s3_settings) as store,
        open_database(mongo_settings) as database,
        open_publisher(private_amqp_settings) as publisher,
    ):
        for bucket in (store.bucket, s3_settings.pages_bucket):
            await store.client.create_bucket(Bucket=bucket)
        yield Site(store, database, publisher)


async def answer(*arguments: str) -> Any:
    result = await docreco(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def test_pages_are_queued_to_be_segmented_again(site: Site, s3_settings: S3Settings) -> None:
    pages = sibling(site.store, s3_settings.pages_bucket)
    document = {"rendered": 3, "unrendered": 1}
    known: list[Document] = [{}, document, {"status": "rejected"}, {"key": "gone.png"}]
    for number, fields in enumerate(known):
        page = {"key": f"{number}.png", "status": "segmented", "sequencer": "1", **fields}
        await pages.write(f"{number}.png", b"1", content_type="image/png", metadata={})
        await site.database.pages.insert({"_id": f"{pages.bucket}/{page['key']}", **page})

    assert await answer("pages", "segment") == {"queued": 2}
    assert await answer("pages", "segment", "--status", "rejected") == {"queued": 1}
    assert await answer("pages", "segment", f"{pages.bucket}/0.png") == {"queued": 1}
    assert (await docreco("pages", "segment", "1.png")).exit_code == ExitStatus.REFUSED
    assert "2 of 3 pages" in (await docreco("pages", "list")).stdout
    assert await site.publisher.depth(PAGE_QUEUES.work) == 4


async def test_found_lines_of_pages_are_measured(site: Site, s3_settings: S3Settings) -> None:
    pages, boxes = sibling(site.store, s3_settings.pages_bucket), line_boxes()
    truth = {"kind": "alto", "sha256": "0" * 64, "lines": []}
    await pages.write("given/a.png", page_file(), content_type="image/png", metadata={})
    for key, transcript in (("given/a.png", truth), ("given/gone.png", truth), ("b.png", None)):
        page: Document = {
            "key": key,
            "status": "segmented",
            "ground_truth": transcript,
            "sequencer": "1",
        }
        await site.database.pages.insert({"_id": f"{pages.bucket}/{key}", **page})
    for number, (text, box) in enumerate(boxes.items()):
        page = {"id": f"{pages.bucket}/given/a.png", "line": f"{number}", "polygon": box}
        image = {"key": f"{number}.webp", "status": "predicted", "annotation": {"text": text}}
        document = {"_id": f"{site.store.bucket}/{number}", "sequencer": "1", **image}
        await site.database.images.insert({**document, "page": {**page, "order": number}})

    found = await docreco("pages", "evaluate", "--no-read", "--json")

    assert found.exit_code == ExitStatus.INCOMPLETE, found.output
    measured = json.loads(found.stdout)
    assert measured["unread"] == {"object_not_found": 1}
    assert measured["all"] == {"pages": 1, **measured["pages"][f"{pages.bucket}/given/a.png"]}
    assert [measured["all"][name] for name in ("lines", "found", "usable")] == [5, 5, 1]
    assert measured["all"]["CER"] is None
    assert (await docreco("pages", "evaluate", "b.png")).exit_code == ExitStatus.REFUSED


async def test_reconcile_counts_and_queues(site: Site) -> None:
    await site.store.write("a.png", b"1", content_type="image/png", metadata={})

    assert (await answer("reconcile"))["found"]["young"] == 1

    async def is_old_enough() -> bool:
        found = await answer("reconcile", "--dry-run", "--min-age", "0")
        return bool(found["found"]["missing"] == 1 and found["queued"] == 0)

    await eventually(is_old_enough)
    assert (await answer("reconcile", "--min-age", "0"))["queued"] == 1
    assert await site.publisher.depth(OCR_QUEUES.work) == 1
    people = await docreco("reconcile", "--dry-run")
    assert "object without a document" in people.stdout
    assert "nothing queued" in people.stdout


async def test_reconcile_holds_removals_until_a_person_allows_them(site: Site) -> None:
    for number in range(6):
        await site.predicted(f"{number}.png")

    held = await docreco("reconcile", "--min-age", "0", "--json")
    people = await docreco("reconcile", "--dry-run")
    allowed = await answer("reconcile", "--min-age", "0", "--allow-gone")

    assert held.exit_code == ExitStatus.INCOMPLETE
    found = json.loads(held.stdout)
    assert (found["queued"], found["held"]) == (0, 6)
    assert "6 removals held" in people.stdout
    assert "--allow-gone" in people.stdout
    assert (allowed["queued"], allowed["held"]) == (6, 0)


async def test_repredict_queues_what_another_version_read(site: Site) -> None:
    await site.predicted("a.png")

    dry = await answer("repredict", "--model-version-not", "v2", "--dry-run")
    assert dry == {"dry_run": True, "images": 1}
    assert await site.publisher.depth(REPREDICT_QUEUES.work) == 0
    assert (await answer("repredict", "--model-version-not", "v1"))["images"] == 0
    assert (await answer("repredict", "--model-version-not", "v2"))["images"] == 1
    assert await site.publisher.depth(REPREDICT_QUEUES.work) == 1
    assert (await docreco("repredict", "--status", "removed")).exit_code == 2


async def test_parked_is_listed_shown_replayed_and_dropped(site: Site) -> None:
    await site.park(b'{"Key": "raw/a.png"}', b"not JSON \x1b[2J", b'{"Key": "raw/c.png"}')

    listed = await answer("parked", "list", "--code", "invalid_event", "--reason", "records")
    assert [each["subject"] for each in listed] == ["raw/a.png", "", "raw/c.png"]
    assert await answer("parked", "list", "--code", "bug") == []
    shown = await docreco("parked", "show", listed[1]["id"])
    assert "Records: missing" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert (await docreco("parked", "show", "none")).exit_code == ExitStatus.REFUSED

    assert len(await answer("parked", "replay", listed[0]["id"])) == 1
    assert await site.publisher.depth(OCR_QUEUES.work) == 1
    assert (await docreco("parked", "drop", stdin="n\n")).exit_code != 0
    assert await site.publisher.depth(OCR_QUEUES.parked) == 2
    assert (await docreco("parked", "drop", "--limit", "1", stdin="y\n")).exit_code == 0
    assert len(await answer("parked", "drop", "--yes")) == 1
    assert "Nothing is parked." in (await docreco("parked", "list")).stdout


async def test_parked_fetches_are_another_queue(site: Site) -> None:
    await site.park(b'{"fetch_id": "b1/1"}', queue=FETCH_QUEUES.parked)

    assert await answer("parked", "list") == []
    [parked] = await answer("parked", "list", "--queue", "fetch")
    assert parked["subject"] == "b1/1"
    await answer("parked", "replay", "--queue", "fetch")
    assert await site.publisher.depth(FETCH_QUEUES.partitions[0]) == 1


async def test_forget_asks_first_and_says_what_is_not_proved(site: Site) -> None:
    await site.store.write("a.png", b"1", content_type="image/png", metadata={})
    await site.predicted("a.png")

    assert (await docreco("forget", "none.png")).exit_code == ExitStatus.REFUSED
    assert (await docreco("forget", "a.png", stdin="n\n")).exit_code != 0
    assert await site.store.head("a.png") is not None
    unproved = await docreco("forget", "a.png", "--yes", "--wait", "0")
    assert unproved.exit_code == ExitStatus.INCOMPLETE
    assert "not yet" in unproved.stdout
    assert await site.store.head("a.png") is None


@pytest.mark.parametrize(
    "command", [("parked", "list"), ("reconcile",), ("repredict",), ("forget", "a.png", "--yes")]
)
async def test_broker_that_is_down_is_said(
    site: Site, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    await site.store.write("a.png", b"1", content_type="image/png", metadata={})
    monkeypatch.setenv("AMQP_URL", "amqp://admin:secret@127.0.0.1:9/")

    result = await docreco(*command)

    assert result.exit_code == ExitStatus.UNAVAILABLE
    assert "RabbitMQ does not answer" in result.stderr
    assert "secret" not in result.output
    assert await site.store.head("a.png") is not None  # nothing half done
