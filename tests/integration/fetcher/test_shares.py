"""A batch whose items wait for their hosts leaves room for others."""

import asyncio

import pytest
from typing_extensions import override

from services.common.adapters.rabbitmq.messaging import Publisher, connect, open_channel
from services.common.adapters.rabbitmq.retry_policy import FETCH_QUEUES
from services.common.domain.batch import Batch
from services.common.domain.batch_item import ItemOutcome
from services.fetcher.batches import dispatcher as dispatching
from services.fetcher.batches.dispatcher import THROTTLED_SECONDS, DispatchResult, FairShare
from services.fetcher.batches.item_repository import ItemRepository, ItemResult, fetch_id
from services.fetcher.batches.pages import Counting, ListPages
from services.fetcher.batches.repository import BatchRepository
from services.fetcher.batches.submissions import Description, Submissions
from services.fetcher.jobs import FetchJob
from services.fetcher.sources.lists.formats import OpenList
from services.fetcher.sources.lists.rows import ListItem
from tests.support.fetcher import Surroundings, dispatcher_of

DONE = ItemResult(ItemOutcome.STORED, "stored")


@pytest.fixture(autouse=True)
def small_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatching, "MOST_DELAYED", 10)


async def batch_of(surroundings: Surroundings, items: int, *, published: int = 0) -> str:
    """Write a batch down; its list has one page."""
    rows = iter([ListItem(line, f"http://x.test/{line}") for line in range(1, items + 1)])
    database = surroundings.database
    submissions = Submissions(
        BatchRepository(database.batches), ListPages(database.lists), asyncio.Event()
    )
    batch_id = (await submissions.submit(OpenList(None, rows), Description("a list"))).id
    if published:
        fields = {"pages.published": published, "pages.next": 1, "pages.count": 2}
        await database.batches.update_one({"_id": batch_id}, {"$set": fields})
    return batch_id


async def document(surroundings: Surroundings, batch_id: str) -> Batch:
    return await BatchRepository(surroundings.database.batches).get(batch_id)


async def test_batch_has_as_many_jobs_under_way_as_there_is_room_left(
    surroundings: Surroundings,
) -> None:
    database, now = surroundings.database, 100.0
    items = ItemRepository(database.fetches)
    shares = FairShare(
        Counting(BatchRepository(database.batches), items, ListPages(database.lists)),
        items,
        lambda: now,
    )
    slow = await batch_of(surroundings, 6, published=6)
    other = await document(surroundings, await batch_of(surroundings, 6))

    assert await shares.admits(await document(surroundings, slow), delayed=5)
    assert not await shares.admits(await document(surroundings, slow), delayed=6)
    assert shares.throttled == [slow]
    assert await shares.admits(other, delayed=9)
    now += THROTTLED_SECONDS
    assert shares.throttled == []
    for line in (1, 2, 3):
        job = FetchJob(fetch_id(slow, line), slow, f"http://x.test/{line}")
        await items.finish(job, DONE)
    assert await shares.admits(await document(surroundings, slow), delayed=6)


async def test_items_published_again_count_as_far_as_they_are(surroundings: Surroundings) -> None:
    database = surroundings.database
    items = ItemRepository(database.fetches)
    shares = FairShare(
        Counting(BatchRepository(database.batches), items, ListPages(database.lists)), items
    )
    batch_id = await batch_of(surroundings, 6, published=6)
    await items.queue(
        [FetchJob(fetch_id(batch_id, line), batch_id, "http://x.test/") for line in range(1, 7)]
    )
    batch = await document(surroundings, batch_id)

    allowed = []
    for after in ("", fetch_id(batch_id, 3), fetch_id(batch_id, 4)):
        at = batch.having(dispatch=batch.dispatch.having(after=after))
        allowed.append(await shares.admits(at, delayed=6))

    assert allowed == [True, True, False]


class CrowdedPublisher(Publisher):
    """Sees jobs wait in each delay."""

    @override
    async def depth(self, queue: str) -> int:
        return 3 if queue in FETCH_QUEUES.delays else 0


async def test_batch_with_its_full_share_does_not_block_others(surroundings: Surroundings) -> None:
    slow = await batch_of(surroundings, 9, published=9)
    quick = await batch_of(surroundings, 2)
    dispatcher = dispatcher_of(surroundings)
    async with connect(surroundings.amqp) as connection:
        publisher = CrowdedPublisher(await open_channel(connection, confirms=True))
        worked = [await dispatcher.dispatch_page(publisher) for _ in range(3)]

    assert worked == [DispatchResult.THROTTLED, DispatchResult.SERVED, DispatchResult.IDLE]
    assert (await document(surroundings, slow)).pages.next == 1
    assert (await document(surroundings, quick)).dispatch.done
    assert (await document(surroundings, quick)).pages.published == 2
