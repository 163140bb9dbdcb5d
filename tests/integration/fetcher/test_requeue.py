"""Items requeued and counted by a retry, with concurrent changes of the batch."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import aio_pika
import pytest
from aiohttp import web
from typer.testing import CliRunner
from typing_extensions import override

from services.cli.main import app as docreco
from services.common.adapters.rabbitmq.messaging import open_publisher
from services.common.adapters.rabbitmq.retry_policy import (
    COPIES_HEADER,
    DELIVERY_COUNT_HEADER,
    FETCH_QUEUES,
    MOST_COPIES,
    MOST_RETURNS,
    Delivery,
    decide_retry,
)
from services.common.domain.batch import Batch, PageProgress, RetryScope
from services.common.domain.batch_item import ItemOutcome
from services.common.domain.errors import DatabaseUnavailableError
from services.fetcher.batches.dispatcher import DispatchResult
from services.fetcher.batches.item_repository import ItemRepository, ItemResult, fetch_id
from services.fetcher.batches.pages import Counting, Expander, ListPages, to_page
from services.fetcher.batches.repository import BatchRepository
from services.fetcher.batches.service import Batches
from services.fetcher.batches.submissions import Description, Submissions
from services.fetcher.jobs import FetchJob
from services.fetcher.sources.lists.formats import OpenList
from services.fetcher.sources.lists.rows import ListItem
from tests.support.fetcher import (
    Surroundings,
    dispatcher_of,
    get_json,
    running_fetcher,
    submit,
    wait_done,
)
from tests.support.waiting import eventually
from tests.support.web import open_site, png

FAILED = ItemResult(ItemOutcome.FAILED, "timeout", is_transient=True)


@pytest.fixture
def items(surroundings: Surroundings) -> ItemRepository:
    return ItemRepository(surroundings.database.fetches)


@pytest.fixture
def pages(surroundings: Surroundings) -> ListPages:
    return ListPages(surroundings.database.lists)


async def published_batch(surroundings: Surroundings, count: int, **fields: Any) -> str:
    """Write a batch down as it is once its list was published, whose jobs are lost."""
    rows = iter([ListItem(line, f"http://x.test/{line}", None) for line in range(1, count + 1)])
    batches, pages = (
        BatchRepository(surroundings.database.batches),
        ListPages(surroundings.database.lists),
    )
    submissions = Submissions(batches, pages, asyncio.Event())
    batch_id = (await submissions.submit(OpenList(None, rows), Description("a list"))).id
    done = {"pages.next": 1, "dispatch.done": True, **fields}
    await surroundings.database.batches.update_one({"_id": batch_id}, {"$set": done})
    return batch_id


async def purge(surroundings: Surroundings) -> int:
    """Empty the queues of jobs; return how many they held."""
    async with await aio_pika.connect(str(surroundings.amqp.url)) as connection:
        channel = await connection.channel()
        queues = [
            await channel.get_queue(name)
            for name in (*FETCH_QUEUES.partitions, *FETCH_QUEUES.delays)
        ]
        return sum([(await queue.purge()).message_count or 0 for queue in queues])


async def test_batch_whose_jobs_are_lost_is_completed_by_a_retry(
    surroundings: Surroundings,
) -> None:
    lost, purged = 20, 0
    is_back = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        await is_back.wait()
        return web.Response(body=png(int(request.path[1:])), content_type="image/png")

    async def is_under_way() -> bool:
        batch = await get_json(api, f"/batches/{batch_id}")
        document = await surroundings.database.batches.find_one({"_id": batch_id})
        is_published = document is not None and document["dispatch"]["done"]
        return is_published and batch["counts"]["stored"] == 1

    async def are_all_lost() -> bool:
        nonlocal purged
        purged += await purge(surroundings)
        return purged >= lost

    async with open_site() as site, open_site() as other:  # a slot of its own for the first one
        urls = [site.add(f"/{number}", answer) for number in range(1, lost + 1)]
        async with running_fetcher(surroundings) as api:
            batch_id = (await submit(api, other.add_body("/first", png(0)), *urls))["batch_id"]
            await eventually(is_under_way)
        await eventually(are_all_lost)
        is_back.set()

        async with running_fetcher(surroundings) as api:
            before = await get_json(api, f"/batches/{batch_id}")
            async with api.post(f"/batches/{batch_id}/retry") as response:
                retried = (await response.json())["retried"]
            after = await wait_done(api, batch_id)

    assert before["counts"]["queued"] == lost
    assert retried == lost
    assert (after["state"], after["counts"]["stored"]) == ("completed", lost + 1)
    assert sum(after["counts"].values()) == lost + 1


async def test_requeue_leaves_unpublished_and_finished_items_alone(
    items: ItemRepository, pages: ListPages
) -> None:
    listed = [ListItem(line, f"http://x.test/{line}", f"note {line}") for line in range(1, 6)]
    for number, rows in enumerate((listed[:1], listed[1:2], listed[2:])):
        await pages.add("b", to_page(number, rows))
    stored = FetchJob("b/0000000003", "b", "http://x.test/3", page=2)
    await items.finish(stored, ItemResult(ItemOutcome.STORED, "stored"))
    # of the three pages the first and the last are published, and the first is counted for good
    progress = PageProgress(next=2, count=3, counted=(0,))
    batch = Batch(id="b", created_at=datetime.now(tz=UTC), pages=progress)
    expander = Expander(pages, items)

    assert await expander.requeue(batch, RetryScope.TRANSIENT) == 2
    assert await expander.requeue(batch, RetryScope.TRANSIENT) == 0

    queued = [item async for item in items.of_batch("b", outcome=ItemOutcome.QUEUED)]
    assert [(each.id, each.annotation, each.attempts) for each in queued] == [
        ("b/0000000004", "note 4", 0),
        ("b/0000000005", "note 5", 0),
    ]


async def test_dispatcher_finishes_a_retry_cut_off_by_a_crash(surroundings: Surroundings) -> None:
    intention = {"requeue": RetryScope.TRANSIENT, "dispatch.done": False, "dispatch.after": ""}
    await published_batch(surroundings, 3, **intention)

    async with open_publisher(surroundings.amqp) as publisher:
        for _ in range(2):
            assert (
                await dispatcher_of(surroundings).dispatch_page(publisher) is DispatchResult.SERVED
            )
            await surroundings.database.batches.update_many(
                {}, {"$set": {"dispatch.leased_until": datetime.fromtimestamp(0, tz=UTC)}}
            )

    assert await purge(surroundings) == 3


class WatchedItems(ItemRepository):
    """Lets something happen right before failed items are queued again."""

    def __init__(self, surroundings: Surroundings, wake: asyncio.Event) -> None:
        super().__init__(surroundings.database.fetches)
        self._surroundings = surroundings
        self._wake = wake

    @override
    async def requeue(self, batch_id: str, scope: RetryScope) -> int:
        async with open_publisher(self._surroundings.amqp) as publisher:
            assert (
                await dispatcher_of(self._surroundings).dispatch_page(publisher)
                is DispatchResult.IDLE
            )
        assert not self._wake.is_set()
        # as a process that carried the same intention out, and counted the page then
        counted = {"requeue": None, "pages.counted": [0], "pages.kept.failed": 1}
        await self._surroundings.database.batches.update_one({"_id": batch_id}, {"$set": counted})
        return await super().requeue(batch_id, scope)


async def test_retry_counts_its_items_despite_concurrent_dispatch(
    surroundings: Surroundings, items: ItemRepository, pages: ListPages
) -> None:
    batch_id, wake = await published_batch(surroundings, 1), asyncio.Event()
    await items.finish(FetchJob(f"{batch_id}/0000000001", batch_id, "http://x.test/1"), FAILED)
    watched = WatchedItems(surroundings, wake)
    repository = BatchRepository(surroundings.database.batches)
    batches = Batches(
        repository,
        watched,
        pages,
        counting=Counting(repository, watched, pages),
        expander=Expander(pages, watched),
        wake=wake,
    )

    assert await batches.retry(batch_id, RetryScope.TRANSIENT) == 1

    assert wake.is_set()
    counts = (await batches.find(batch_id)).counts.by_outcome
    assert (counts[ItemOutcome.QUEUED], counts[ItemOutcome.FAILED]) == (1, 0)
    async with open_publisher(surroundings.amqp) as publisher:
        assert await dispatcher_of(surroundings).dispatch_page(publisher) is DispatchResult.SERVED
    assert await purge(surroundings) == 1


async def test_replay_ends_an_item_parked_during_an_outage(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_URL", str(surroundings.amqp.url))
    batch_id = await published_batch(surroundings, 1)
    # 10.0.0.1 is never connected to
    job = FetchJob(fetch_id(batch_id, 1), batch_id, "http://10.0.0.1/")
    refused = DatabaseUnavailableError("not primary")
    exhausted = {DELIVERY_COUNT_HEADER: MOST_RETURNS, COPIES_HEADER: MOST_COPIES}
    delivery = Delivery(job.body(), headers={**job.headers(), **exhausted})
    disposition = decide_retry(refused, delivery, FETCH_QUEUES)
    async with open_publisher(surroundings.amqp) as publisher:
        await publisher.publish(job.body(), queue=disposition.queue, headers=disposition.headers)

    async with running_fetcher(surroundings) as api:
        before = await get_json(api, f"/batches/{batch_id}")
        command = ("parked", "replay", "--queue", "fetch", "--code", "index_unavailable", "--json")
        replayed = await asyncio.to_thread(CliRunner().invoke, docreco, command)
        after = await wait_done(api, batch_id)

    assert (before["state"], before["counts"]["queued"]) == ("running", 1)
    assert [each["subject"] for each in json.loads(replayed.stdout)] == [job.url]
    assert (after["state"], after["failure_codes"]) == ("completed", {"forbidden_address": 1})
