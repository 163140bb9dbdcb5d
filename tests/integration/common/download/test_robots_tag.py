"""X-Robots-Tag as the downloader obeys it."""

from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from services.common.download.client import Downloader, open_downloader
from services.common.download.errors import FailedDownloadError, RefusedDownloadError
from tests.support.adversary import loopback_settings
from tests.support.web import WebSite


def tagged(*tags: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(_: web.Request) -> web.Response:
        response = web.Response(body=b"x")
        for tag in tags:
            response.headers.add("X-Robots-Tag", tag)
        return response

    return handle


async def test_image_that_opts_out_of_learning_is_refused(
    site: WebSite, downloader: Downloader
) -> None:
    with pytest.raises(RefusedDownloadError) as caught:
        await downloader.get(site.add("/t", tagged("noindex", "noimageai")))

    assert (caught.value.code, caught.value.http_status) == ("robots_tag", 200)


async def test_image_whose_tag_is_for_another_robot_is_fetched(
    site: WebSite, downloader: Downloader
) -> None:
    download = await downloader.get(site.add("/t", tagged("otherbot: noai", "noindex")))

    assert download.content == b"x"


@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (429, "rate_limited")])
async def test_tag_of_an_error_does_not_hide_it(
    site: WebSite, downloader: Downloader, status: int, code: str
) -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"X-Robots-Tag": "noai", "Retry-After": "7"})

    with pytest.raises((RefusedDownloadError, FailedDownloadError)) as caught:
        await downloader.get(site.add("/t", handle))

    assert caught.value.code == code


async def test_stream_of_what_opts_out_of_learning_is_refused(
    site: WebSite, downloader: Downloader
) -> None:
    with pytest.raises(RefusedDownloadError) as caught:
        async with downloader.stream(site.add("/t", tagged("noai")), max_bytes=10):
            pass

    assert caught.value.code == "robots_tag"


async def test_tag_is_told_where_it_is_not_obeyed(site: WebSite) -> None:
    async with open_downloader(loopback_settings(robots_tag="ignore"), connections=1) as downloader:
        download = await downloader.get(site.add("/t", tagged("noindex", "noai")))

    assert download.robots_tag == "noindex, noai"
