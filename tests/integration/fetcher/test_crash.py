"""Nothing that was answered 202 is lost, whatever happens to the fetcher's process."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import aio_pika
import aiohttp
import pytest
from typing_extensions import override

from infra.local.ports import pick_free_ports
from services.common.adapters.forgotten import Forgotten
from services.common.adapters.object_store import ObjectStore, sibling
from services.common.adapters.rabbitmq.messaging import Publisher, open_publisher
from services.common.adapters.rabbitmq.retry_policy import FETCH_QUEUES, MOST_RETURNS, Delivery
from services.common.domain.errors import DocumentRefusedError, ObjectStoreUnavailableError
from services.common.domain.provenance import from_metadata
from services.common.download.client import Download
from services.common.download.errors import RefusedDownloadError
from services.common.download.responses import Validators
from services.fetcher.batches.dispatcher import PAGE_ITEMS, DispatchResult
from services.fetcher.batches.item_repository import ItemRepository
from services.fetcher.batches.repository import BatchRepository, Cancellations
from services.fetcher.images import ImageWriter
from services.fetcher.jobs import FetchJob
from services.fetcher.politeness.host import HostRepository
from services.fetcher.politeness.scheduler import HostScheduler, SlotLimits
from services.fetcher.politeness.source import ItemSource
from services.fetcher.worker import Worker
from tests.support.fetcher import (
    Surroundings,
    dispatcher_of,
    fetcher_process,
    running_fetcher,
    submit,
    wait_done,
    wait_ready,
)
from tests.support.waiting import DEADLINE_SECONDS, deadline
from tests.support.web import open_site, png

JOB = FetchJob("b/0000000001", "b", "http://x.test/")


async def test_next_process_does_all_items_of_a_killed_one(surroundings: Surroundings) -> None:
    port = pick_free_ports().fetcher_port
    async with (
        open_site() as site,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api,
    ):
        urls = [site.add_body(f"/{number}", png(number)) for number in range(60)]
        with fetcher_process(surroundings, port) as process:
            await wait_ready(api)
            batch_id = (await submit(api, *urls))["batch_id"]
            process.kill()
            process.wait()

        with fetcher_process(surroundings, port) as process:
            await wait_ready(api)
            batch = await wait_done(api, batch_id)
            assert batch["counts"]["stored"] == 60
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, DEADLINE_SECONDS) == 0


async def test_crash_between_pages_does_not_lose_one(surroundings: Surroundings) -> None:
    fetches, batches = surroundings.database.fetches, surroundings.database.batches
    count = PAGE_ITEMS + 3
    async with running_fetcher(surroundings, concurrency=1) as api:
        # 10.0.0.1 is never connected to
        batch_id = (await submit(api, *["http://10.0.0.1/"] * count))["batch_id"]
        batch = await wait_done(api, batch_id)
    assert batch["counts"]["failed"] == count
    await fetches.update_many({"batch_id": batch_id}, {"$set": {"outcome": "queued"}})
    start_again = {"dispatch.done": False, "dispatch.after": ""}
    await batches.update_one({"_id": batch_id}, {"$set": start_again})

    async with open_publisher(surroundings.amqp) as publisher:
        assert await dispatcher_of(surroundings).dispatch_page(publisher) is DispatchResult.SERVED
        assert await dispatcher_of(surroundings).dispatch_page(publisher) is DispatchResult.SERVED
        assert await dispatcher_of(surroundings).dispatch_page(publisher) is DispatchResult.IDLE

    ids = await drain(surroundings, count)
    assert sorted(ids) == [f"{batch_id}/{line:010d}" for line in range(1, count + 1)]


async def drain(surroundings: Surroundings, count: int) -> list[str]:
    """Take this many jobs off the partitions, in which there are no more."""
    ids = []
    async with await aio_pika.connect(str(surroundings.amqp.url)) as connection:
        channel = await connection.channel()
        for name in FETCH_QUEUES.partitions:
            partition = await channel.declare_queue(name, passive=True)
            if waiting := partition.declaration_result.message_count:
                ids += [
                    json.loads(each.body)["fetch_id"] async for each in _take(partition, waiting)
                ]
    assert len(ids) == count
    return ids


async def test_lease_of_a_dead_dispatcher_runs_out(surroundings: Surroundings) -> None:
    async with running_fetcher(surroundings) as api:
        batch_id = (await submit(api, "http://10.0.0.1/"))["batch_id"]
        await wait_done(api, batch_id)
    where = {"_id": batch_id}
    await surroundings.database.batches.update_one(where, {"$set": {"dispatch.done": False}})

    dead = dispatcher_of(surroundings)
    assert await dead._lease() is not None
    assert await dispatcher_of(surroundings)._lease() is None
    assert await dead._lease() is not None
    long_ago = {"$currentDate": {"dispatch.leased_until": True}}
    await surroundings.database.batches.update_one(where, long_ago)
    assert await dispatcher_of(surroundings)._lease() is not None


async def publish(publisher: Publisher, job: FetchJob) -> None:
    await publisher.publish(
        job.body(),
        queue=FETCH_QUEUES.work,
        headers=job.headers(),
        exchange=FETCH_QUEUES.exchange,
    )


async def test_job_that_comes_twice_is_done_once(surroundings: Surroundings) -> None:
    async with open_site() as site, running_fetcher(surroundings) as api:
        batch_id = (await submit(api, site.add_body("/a", png(1))))["batch_id"]
        await wait_done(api, batch_id)
        async with open_publisher(surroundings.amqp) as publisher:
            for _ in range(3):
                await publish(
                    publisher, FetchJob(f"{batch_id}/0000000001", batch_id, site.url("/a"))
                )
        last = (await submit(api, site.add_body("/b", png(2))))["batch_id"]
        await wait_done(api, last)

    assert site.hits["/a"] == 1


async def test_message_that_is_no_job_is_parked(surroundings: Surroundings) -> None:
    async with running_fetcher(surroundings):
        async with open_publisher(surroundings.amqp) as publisher:
            for body in (b"{", b"[]", b'{"fetch_id": 1}'):
                await publisher.publish(body, queue="", exchange=FETCH_QUEUES.exchange)
        async with await aio_pika.connect(str(surroundings.amqp.url)) as connection:
            channel = await connection.channel()
            parked = await channel.get_queue(FETCH_QUEUES.parked)
            async with deadline():
                codes = [message.headers["x-code"] async for message in _take(parked, 3)]
    assert codes == ["invalid_job"] * 3


class BrokenSource:
    """Fails as only a bug of ours does, unless told how."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    async def get(
        self, url: str, *, validators: Validators | None = None, max_bytes: int | None = None
    ) -> Download:
        raise self._error or RuntimeError(f"{url} {validators} {max_bytes}")


def make_worker(surroundings: Surroundings, source: ItemSource) -> Worker:
    database = surroundings.database
    items, forgotten = ItemRepository(database.fetches), Forgotten(database.forgotten)
    pages = sibling(surroundings.store, surroundings.s3.pages_bucket)
    return Worker(
        source=source,
        scheduler=HostScheduler(SlotLimits(4, 4), HostRepository(database.hosts)),
        writer=ImageWriter(surroundings.store, pages, items, forgotten, redact=str),
        items=items,
        cancellations=Cancellations(BatchRepository(database.batches)),
        max_attempts=3,
        max_page_bytes=1000,
    )


class PictureSource:
    """Has one image."""

    async def get(
        self, url: str, *, validators: Validators | None = None, max_bytes: int | None = None
    ) -> Download:
        assert url
        assert (validators, max_bytes) == (None, None)
        return Download(png(1), 200, "image/png")


class CutOffStore(ObjectStore):
    """Stores the write, and stops the writer."""

    @override
    async def write(
        self, key: str, content: bytes, *, content_type: str, metadata: Mapping[str, str]
    ) -> str:
        await super().write(key, content, content_type=content_type, metadata=metadata)
        raise ObjectStoreUnavailableError("written, but not acknowledged")


@pytest.mark.parametrize(("annotation", "written"), [("é" * 1000, 1), ("short", 0)])
async def test_fetch_is_written_before_an_object_that_refers_to_it(
    surroundings: Surroundings, annotation: str, written: int
) -> None:
    items = ItemRepository(surroundings.database.fetches)
    store = CutOffStore(
        surroundings.store.client, surroundings.s3.bucket, write_timeout_seconds=60.0
    )
    job = replace(JOB, annotation=annotation)

    with pytest.raises(ObjectStoreUnavailableError):
        await make_worker(replace(surroundings, store=store), PictureSource()).handle(
            Delivery(job.body())
        )

    item = await items.find(job.fetch_id)
    assert await surroundings.database.fetches.count({}) == written
    if item is not None:
        assert (item.url, item.annotation) == (job.url, annotation)
        assert (item.outcome, item.code, item.attempts) == ("queued", None, 0)
    again = Delivery(job.body(), headers={"x-delivery-count": 1})
    assert await make_worker(surroundings, PictureSource()).handle(again) == "stored"
    stored = await items.find(job.fetch_id)
    assert stored is not None
    assert (stored.outcome, stored.attempts) == ("stored", 1)


async def test_repeated_job_does_not_restore_an_older_annotation(
    surroundings: Surroundings,
) -> None:
    """A page is published twice where the dispatcher is killed before it notes that it was."""
    worker = make_worker(surroundings, PictureSource())
    first = replace(JOB, annotation="older")
    second = replace(JOB, fetch_id="c/0000000001", batch_id="c", annotation="later")

    codes = [await worker.handle(Delivery(job.body())) for job in (first, second, first)]

    item = await ItemRepository(surroundings.database.fetches).find(second.fetch_id)
    assert item is not None
    assert item.key is not None
    stored = await surroundings.store.head(item.key)
    assert stored is not None
    assert from_metadata(dict(stored.metadata)).annotation == "later"
    assert codes == ["stored", "stored", "done_already"]


async def test_item_ends_even_if_its_outcome_cannot_be_written(surroundings: Surroundings) -> None:
    items = ItemRepository(surroundings.database.fetches)
    no_bson = RefusedDownloadError("invalid_response", "", http_status=2**64)
    worker = make_worker(surroundings, BrokenSource(no_bson))

    with pytest.raises(DocumentRefusedError):
        await worker.handle(Delivery(JOB.body()))

    item = await items.find("b/0000000001")
    assert item is not None
    assert (item.outcome, item.code) == ("failed", "internal_error")


def test_job_is_given_up_before_rabbitmq_drops_it() -> None:
    definitions = json.loads(Path("rabbitmq/definitions.json").read_text())
    queues = [each for each in definitions["queues"] if each["name"] in FETCH_QUEUES.partitions]

    for queue in queues:
        assert queue["arguments"]["x-delivery-limit"] > MOST_RETURNS


async def _take(
    queue: aio_pika.abc.AbstractQueue, count: int
) -> AsyncIterator[aio_pika.abc.AbstractIncomingMessage]:
    async with queue.iterator(no_ack=True) as messages:
        async for message in messages:
            yield message
            count -= 1
            if not count:
                return
