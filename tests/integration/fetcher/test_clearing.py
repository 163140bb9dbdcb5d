"""Incomplete lists are cleaned up, and nothing that is in use."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from typing_extensions import override

from services.common.adapters.mongo import Collection, Filter
from services.common.domain.errors import DatabaseUnavailableError
from services.fetcher.batches import submissions
from services.fetcher.batches.pages import PAGE_ROWS, Clearing, ListPages
from services.fetcher.batches.repository import BatchRepository
from services.fetcher.batches.submissions import Description, ListClearedError, Submissions
from services.fetcher.sources.lists.formats import OpenList
from services.fetcher.sources.lists.rows import ListItem, Row
from tests.support.fetcher import Surroundings

KEPT_SECONDS = 3600.0
KEYED = Description("a list", idempotency_key="k")


class CutOffError(Exception):
    """The process ends here."""


def rows(count: int, *, cut_off: bool = False) -> Iterator[Row]:
    for line in range(1, count + 1):
        yield ListItem(line, f"http://x.test/{line}")
    if cut_off:
        raise CutOffError


@pytest.fixture
def taken(surroundings: Surroundings) -> Submissions:
    database = surroundings.database
    return Submissions(
        BatchRepository(database.batches), ListPages(database.lists), asyncio.Event()
    )


@pytest.fixture
def clearing(surroundings: Surroundings) -> Clearing:
    database = surroundings.database
    return Clearing(
        BatchRepository(database.batches), ListPages(database.lists), kept_seconds=KEPT_SECONDS
    )


async def grow_old(surroundings: Surroundings) -> None:
    long_ago = datetime.now(tz=UTC) - timedelta(seconds=KEPT_SECONDS + 1)
    await surroundings.database.batches.update_many({}, {"$set": {"touched_at": long_ago}})


async def begin(taken: Submissions) -> None:
    with pytest.raises(CutOffError):
        await taken.submit(OpenList(None, rows(PAGE_ROWS + 1, cut_off=True)), KEYED)


async def test_old_unfinished_list_is_cleared_and_its_key_is_free(
    surroundings: Surroundings, taken: Submissions, clearing: Clearing
) -> None:
    database = surroundings.database
    whole = await taken.submit(OpenList(None, rows(3)), Description("another"))
    await begin(taken)

    assert await clearing.clear() == 0
    assert await database.lists.count({}) == 2
    await grow_old(surroundings)
    assert await clearing.clear() == 1

    assert [each["_id"] async for each in database.batches.find({})] == [whole.id]
    assert await database.lists.count({"batch_id": whole.id}) == 1
    assert await database.lists.count({}) == 1
    assert (await taken.submit(OpenList(None, rows(5)), KEYED)).accepted == 5


async def test_list_that_is_sent_again_is_in_use(
    surroundings: Surroundings,
    taken: Submissions,
    clearing: Clearing,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(submissions, "TOUCHED_SECONDS", 0.0)
    await begin(taken)
    await grow_old(surroundings)
    with pytest.raises(CutOffError):
        await taken.submit(
            OpenList(None, rows(0, cut_off=True)), KEYED
        )  # joins, and comes no further

    assert await clearing.clear() == 0

    loop = asyncio.get_running_loop()

    def slow() -> Iterator[Row]:
        for row in rows(2 * PAGE_ROWS + 1):
            if row.line == PAGE_ROWS + 1:  # a page is written
                asyncio.run_coroutine_threadsafe(grow_old(surroundings), loop).result()
            if row.line == 2 * PAGE_ROWS + 1:  # and another, which says so again
                assert asyncio.run_coroutine_threadsafe(clearing.clear(), loop).result() == 0
            yield row

    assert (await taken.submit(OpenList(None, slow()), KEYED)).accepted == 2 * PAGE_ROWS + 1


class StuckCollection(Collection):
    """Deletes nothing."""

    @override
    async def delete_many(self, where: Filter) -> int:
        raise DatabaseUnavailableError(f"cannot delete {where}")


async def test_interrupted_clearing_is_finished_later(
    surroundings: Surroundings, taken: Submissions, clearing: Clearing
) -> None:
    database = surroundings.database
    stuck = StuckCollection(database.lists._collection)
    await begin(taken)
    await grow_old(surroundings)
    with pytest.raises(DatabaseUnavailableError):
        await Clearing(
            BatchRepository(database.batches), ListPages(stuck), kept_seconds=KEPT_SECONDS
        ).clear()

    whole = await taken.submit(OpenList(None, rows(3)), KEYED)
    assert await clearing.clear() == 1

    assert [each["_id"] async for each in database.batches.find({})] == [whole.id]
    assert await database.lists.count({}) == 1


async def test_list_that_is_cleared_while_being_read_is_refused(
    surroundings: Surroundings, taken: Submissions, clearing: Clearing
) -> None:
    loop = asyncio.get_running_loop()

    def slow() -> Iterator[Row]:
        yield from rows(PAGE_ROWS + 1)
        asyncio.run_coroutine_threadsafe(grow_old(surroundings), loop).result()
        assert asyncio.run_coroutine_threadsafe(clearing.clear(), loop).result() == 1

    with pytest.raises(ListClearedError):
        await taken.submit(OpenList(None, slow()), KEYED)
    assert await surroundings.database.lists.count({}) == 0
