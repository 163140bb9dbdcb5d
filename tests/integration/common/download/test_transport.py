"""Large bodies wait for room in memory; small ones do not."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.common.download.client import LARGE_AT_ONCE, SMALL_BYTES, Downloader, open_downloader
from tests.support.adversary import strict_settings
from tests.support.waiting import deadline
from tests.support.web import WebSite

LARGE = b"x" * (SMALL_BYTES + 100_000)


@pytest.fixture
async def downloader() -> AsyncIterator[Downloader]:
    settings = strict_settings(max_item_bytes=2 * len(LARGE))
    async with open_downloader(settings, connections=50) as downloader:
        yield downloader


async def test_few_tasks_at_once_hold_large_bodies(downloader: Downloader, site: WebSite) -> None:
    large = site.add_body("/large", LARGE)
    small = site.add_body("/small", b"x" * SMALL_BYTES)
    here: list[int] = []
    done = asyncio.Event()

    async def work() -> None:
        here.append(len((await downloader.get(large)).content))
        await done.wait()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(LARGE_AT_ONCE + 2):
            tasks.create_task(work())
        async with deadline():
            while len(here) < LARGE_AT_ONCE:
                await downloader.get(small)
        for _ in range(100):
            await downloader.get(small)
        assert len(here) == LARGE_AT_ONCE
        done.set()

    assert here == [len(LARGE)] * (LARGE_AT_ONCE + 2)


async def test_task_that_has_room_has_it_for_all_that_it_downloads(
    downloader: Downloader, site: WebSite
) -> None:
    large = site.add_body("/large", LARGE)
    for _ in range(LARGE_AT_ONCE + 1):
        assert len((await downloader.get(large)).content) == len(LARGE)
