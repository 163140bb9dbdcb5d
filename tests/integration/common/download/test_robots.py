"""robots.txt as the downloader obeys it, from web servers on loopback."""

import asyncio

import pytest
from aiohttp import web

from services.common.download import robots
from services.common.download.client import Downloader, open_downloader
from services.common.download.errors import FailedDownloadError, RefusedDownloadError
from tests.support.adversary import failure, loopback_settings
from tests.support.web import WebSite, open_site

DISALLOW_ALL = b"User-agent: *\nDisallow: /\n"


@pytest.fixture
def site(site: WebSite) -> WebSite:
    """A web site with an image."""
    site.add_body("/a.png", b"x")
    return site


@pytest.mark.parametrize(
    "rules",
    [
        DISALLOW_ALL,
        b"User-agent: docreco-fetcher\nDisallow: /a\n\nUser-agent: *\nAllow: /\n",
        b"user-agent: DocReco-Fetcher\ndisallow: *.png$",
        b"User-agent: other\nUser-agent: docreco-fetcher\nDisallow: /\n",
        b"\xef\xbb\xbf" + DISALLOW_ALL,
        b"\xff\xfe\0junk\r\n" + DISALLOW_ALL.replace(b"\n", b"\r\n"),
    ],
    ids=["all", "us", "pattern", "group", "byte order mark", "junk"],
)
async def test_disallowed_url_is_refused_and_not_asked_for(
    site: WebSite, downloader: Downloader, rules: bytes
) -> None:
    site.add_body("/robots.txt", rules)

    error = await failure(downloader, site.url("/a.png"))

    assert error.code == "robots_disallowed"
    assert isinstance(error, RefusedDownloadError)
    assert site.hits == {"/robots.txt": 1}


@pytest.mark.parametrize(
    "rules",
    [
        b"User-agent: docreco-fetcher\nDisallow:\n\nUser-agent: *\nDisallow: /\n",
        b"User-agent: otherbot\nDisallow: /\n",
        b"User-agent: *\nDisallow: /\nAllow: /a\n",
        b"<!doctype html><p>Disallow: /",
    ],
    ids=["us", "another", "longest match", "no robots.txt at all"],
)
async def test_allowed_url_is_fetched(site: WebSite, downloader: Downloader, rules: bytes) -> None:
    site.add_body("/robots.txt", rules)

    assert (await downloader.get(site.url("/a.png"))).content == b"x"


@pytest.mark.parametrize("status", [200, 204, 400, 401, 403, 404, 410, 451])
async def test_missing_or_empty_robots_file_allows_all(
    site: WebSite, downloader: Downloader, status: int
) -> None:
    site.add_body("/robots.txt", b"", status=status)

    assert (await downloader.get(site.url("/a.png"))).content == b"x"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_host_with_a_failing_robots_file_is_left_alone(
    site: WebSite, downloader: Downloader, status: int
) -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": "90"})

    site.add("/robots.txt", handle)

    for _ in range(2):
        error = await failure(downloader, site.url("/a.png"))
        assert (error.code, error.http_status) == ("robots_unavailable", status)
        assert isinstance(error, FailedDownloadError)
        assert error.retry_after_seconds == 90
    assert site.hits == {"/robots.txt": 1}


async def test_host_that_is_silent_about_robots_is_silent(site: WebSite) -> None:
    async def handle(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    site.add("/robots.txt", handle)

    async with open_downloader(
        loopback_settings(idle_timeout_seconds=0.4), connections=1
    ) as downloader:
        assert (await failure(downloader, site.url("/a.png"))).code == "timeout"
    assert "/a.png" not in site.hits


async def test_one_request_for_robots_serves_all_that_wait_for_it(
    site: WebSite, downloader: Downloader
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def handle(_: web.Request) -> web.Response:
        asked.set()
        await answer.wait()
        return web.Response(text="User-agent: *\nDisallow: /b")

    site.add("/robots.txt", handle)
    called_off = asyncio.create_task(downloader.get(site.url("/a.png")))
    downloads = [asyncio.create_task(downloader.get(site.url("/a.png"))) for _ in range(10)]
    await asked.wait()
    called_off.cancel()
    answer.set()

    assert {download.content for download in await asyncio.gather(*downloads)} == {b"x"}
    assert site.hits == {"/robots.txt": 1, "/a.png": 10}


async def test_every_host_of_a_redirect_is_asked(site: WebSite, downloader: Downloader) -> None:
    async with open_site("127.0.0.2") as other:
        target = other.add_body("/b.png", b"y")
        other.add_body("/robots.txt", DISALLOW_ALL)

        error = await failure(downloader, site.add_redirect("/r", target))

    assert error.code == "robots_disallowed"
    assert other.hits == {"/robots.txt": 1}


async def test_robots_file_is_followed_to_another_host(
    site: WebSite, downloader: Downloader
) -> None:
    async with open_site("127.0.0.2") as other:
        site.add_redirect("/robots.txt", other.add_body("/rules", DISALLOW_ALL))

        assert (await failure(downloader, site.url("/a.png"))).code == "robots_disallowed"


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("/robots.txt", None),
        ("ftp://127.0.0.1/robots.txt", None),
        ("http://10.0.0.1/robots.txt", "robots_unavailable"),
        ("http://127.0.0.1:1/robots.txt", "robots_unavailable"),
    ],
    ids=["loop", "scheme", "forbidden", "closed"],
)
async def test_redirect_of_robots_file_reaches_no_forbidden_place(
    site: WebSite, downloader: Downloader, location: str, code: str | None
) -> None:
    site.add_redirect("/robots.txt", location)

    if code is None:
        assert (await downloader.get(site.url("/a.png"))).content == b"x"
    else:
        assert (await failure(downloader, site.url("/a.png"))).code == code


async def test_endless_robots_file_is_read_up_to_its_limit(
    site: WebSite, downloader: Downloader
) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"User-agent: *\nDisallow: /b\n")
        while True:
            await response.write(b"#" * 65535 + b"\n")

    site.add("/robots.txt", handle)

    assert (await downloader.get(site.url("/a.png"))).content == b"x"
    assert (await failure(downloader, site.url("/b"))).code == "robots_disallowed"
    assert site.hits["/robots.txt"] == 1


@pytest.mark.parametrize(
    ("rules", "delay"),
    [
        (b"", None),
        (b"User-agent: *\nCrawl-delay: 2.5", 2.5),
        (b"User-agent: *\nRequest-rate: 1/10s", 10.0),
        (b"User-agent: docreco-fetcher\nCrawl-delay: 1\n\nUser-agent: *\nCrawl-delay: 9", 1.0),
        (b"User-agent: *\nCrawl-delay: 86400", robots.LONGEST_DELAY_SECONDS),
        (b"User-agent: *\nCrawl-delay: -1", None),
        (b"User-agent: *\nCrawl-delay: inf", None),
        (b"User-agent: *\nCrawl-delay: soon\nRequest-rate: 0/0", None),
    ],
)
async def test_delay_that_a_host_wants_is_told(
    site: WebSite, downloader: Downloader, rules: bytes, delay: float | None
) -> None:
    site.add_body("/robots.txt", rules)

    assert await downloader.crawl_delay(site.url("/a.png")) == delay


async def test_host_without_an_answer_wants_no_delay(downloader: Downloader) -> None:
    assert await downloader.crawl_delay("http://127.0.0.1:1/a") is None


async def test_robots_are_not_asked_for_where_the_setting_says_so(site: WebSite) -> None:
    site.add_body("/robots.txt", DISALLOW_ALL)
    async with open_downloader(loopback_settings(robots="ignore"), connections=1) as downloader:
        assert (await downloader.get(site.url("/a.png"))).content == b"x"
        assert await downloader.crawl_delay(site.url("/a.png")) is None

    assert site.hits == {"/a.png": 1}


async def test_robots_file_under_way_is_given_up_at_the_end(site: WebSite) -> None:
    asked = asyncio.Event()

    async def handle(_: web.Request) -> web.Response:
        asked.set()
        await asyncio.Event().wait()
        return web.Response()

    site.add("/robots.txt", handle)
    async with open_downloader(loopback_settings(), connections=1) as downloader:
        waiting = asyncio.create_task(downloader.get(site.url("/a.png")))
        await asked.wait()
    with pytest.raises(asyncio.CancelledError):
        await waiting
