"""The host to blame for failures after redirects."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from services.common.download.client import Downloader, open_downloader
from services.common.download.errors import FailedDownloadError
from services.common.download.urls import host_of
from services.fetcher.politeness.host import UNRESPONSIVE_AFTER_AT_FIRST
from services.fetcher.politeness.scheduler import SlotLimits
from services.fetcher.politeness.source import ThrottledDownloader
from tests.support.adversary import HOSTILE, open_adversary, silence_after, strict_settings
from tests.support.hosts import make_scheduler
from tests.support.web import WebSite, open_site, png


@pytest.fixture
async def downloader() -> AsyncIterator[Downloader]:
    async with open_downloader(strict_settings(patient=False), connections=8) as downloader:
        yield downloader


async def test_host_that_redirects_to_a_dead_one_is_not_dead(
    downloader: Downloader, site: WebSite
) -> None:
    scheduler = make_scheduler(SlotLimits(8, 8))
    source = ThrottledDownloader(downloader, scheduler, members=downloader, files=downloader)
    good = site.add_body("/good", png(1))
    async with open_adversary(silence_after(b"")) as dead:
        for number in range(UNRESPONSIVE_AFTER_AT_FIRST):
            url = site.add_redirect(f"/{number}", f"{dead}/{number}")
            with pytest.raises(FailedDownloadError, match="nothing received"):
                await source.get(url)

        async with scheduler.slot(host_of(good)):
            assert (await source.get(good)).http_status == 200
        with pytest.raises(FailedDownloadError, match="does not answer"):
            async with scheduler.slot(host_of(dead)):
                pytest.fail("it is left alone")


async def test_host_that_redirects_to_a_throttled_one_is_not_paused(
    downloader: Downloader, site: WebSite
) -> None:
    async def throttled(_: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "60"})

    async with open_site(HOSTILE) as other:
        url = site.add_redirect("/a", other.add("/b", throttled))
        with pytest.raises(FailedDownloadError) as redirected:
            await downloader.get(url)
        with pytest.raises(FailedDownloadError) as asked:
            await downloader.get(other.url("/b"))
        with pytest.raises(FailedDownloadError) as streamed:
            async with downloader.stream(url, max_bytes=10):
                pytest.fail("it is not there")

    assert redirected.value.host == streamed.value.host == host_of(other.base_url)
    assert asked.value.host is None
