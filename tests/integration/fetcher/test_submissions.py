"""Two requests with one key at a time are one batch only where their list is one."""

import asyncio
from collections.abc import Iterator

import pytest

from services.common.adapters.mongo import Database
from services.fetcher.batches.pages import ListPages
from services.fetcher.batches.repository import BatchRepository
from services.fetcher.batches.submissions import Description, IdempotencyKeyReusedError, Submissions
from services.fetcher.sources.lists.formats import OpenList
from services.fetcher.sources.lists.rows import ListItem


@pytest.mark.parametrize("content", ["first", "changed"])
async def test_second_request_joins_the_first_for_the_same_list(
    database: Database, content: str
) -> None:
    submissions = Submissions(
        BatchRepository(database.batches), ListPages(database.lists), asyncio.Event()
    )
    is_read, may_end, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()

    def slowly() -> Iterator[ListItem]:
        loop.call_soon_threadsafe(is_read.set)
        asyncio.run_coroutine_threadsafe(may_end.wait(), loop).result()
        yield ListItem(1, f"http://x.test/{content}", None)

    def described(digest: str) -> Description:
        return Description("the address", digest, idempotency_key="key", list_url="http://x.test/")

    slow = asyncio.create_task(submissions.submit(OpenList(None, slowly()), described(content)))
    await is_read.wait()  # it found no batch of this key
    first = await submissions.submit(
        OpenList(None, iter([ListItem(1, "http://x.test/first", None)])), described("first")
    )
    may_end.set()

    if content == "first":
        assert (await slow).id == first.id
    else:
        with pytest.raises(IdempotencyKeyReusedError):
            await slow
    assert await database.lists.count({}) == 1
