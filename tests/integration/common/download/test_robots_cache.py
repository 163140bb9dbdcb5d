"""Duration and size of the downloader's cache of robots.txt."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from yarl import URL

from services.common.download import robots
from services.common.download.errors import FailedDownloadError, RefusedDownloadError
from services.common.download.robots import RobotsPolicy
from services.common.download.settings import DownloadSettings
from services.common.download.transport import DownloadMetrics, Transport
from tests.support.virtual_time import Clock
from tests.support.web import WebSite, open_site


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def policy(clock: Clock) -> AsyncIterator[RobotsPolicy]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        transport = Transport(
            session, DownloadSettings(), DownloadMetrics(CollectorRegistry(), service="test")
        )
        policy = RobotsPolicy(transport, agent="us", timeout_seconds=60, clock=clock)
        yield policy
        await policy.close()


async def test_rules_are_kept_for_a_day(site: WebSite, policy: RobotsPolicy, clock: Clock) -> None:
    url = URL(site.add_body("/robots.txt", b"User-agent: *\nDisallow: /a"))
    await policy.check(url / "b")
    clock.now = robots.KEPT_SECONDS - 1
    await policy.check(url / "b")
    assert site.hits["/robots.txt"] == 1

    clock.now += 1
    await policy.check(url / "b")

    assert site.hits["/robots.txt"] == 2


async def test_trouble_is_forgotten_after_a_minute(
    site: WebSite, policy: RobotsPolicy, clock: Clock
) -> None:
    site.add_body("/robots.txt", b"", status=500)
    url = URL(site.url("/a"))
    with pytest.raises(FailedDownloadError):
        await policy.check(url)
    site.add_body("/robots.txt", b"User-agent: us\nDisallow: /")
    clock.now = robots.UNAVAILABLE_SECONDS - 1
    with pytest.raises(FailedDownloadError):
        await policy.check(url)

    clock.now += 1
    with pytest.raises(RefusedDownloadError):
        await policy.check(url)


async def test_failure_is_repeated_until_the_next_request(
    site: WebSite, policy: RobotsPolicy, clock: Clock
) -> None:
    site.add_body("/robots.txt", b"", status=503)

    are_repeated = list[bool]()
    for clock.now in (0, 1, 2, robots.UNAVAILABLE_SECONDS, robots.UNAVAILABLE_SECONDS + 1):
        with pytest.raises(FailedDownloadError) as caught:
            await policy.check(URL(site.url("/a")))
        are_repeated.append(caught.value.is_repeated)

    assert are_repeated == [False, True, True, False, True]
    assert site.hits["/robots.txt"] == 2


async def test_host_that_could_not_be_reached_is_tried_again_soon(
    site: WebSite, policy: RobotsPolicy, clock: Clock
) -> None:
    site.add("/robots.txt", lost)
    url = URL(site.url("/a"))
    assert await policy.crawl_delay(str(url)) is None
    asked = site.hits["/robots.txt"]
    with pytest.raises(FailedDownloadError) as caught:
        await policy.check(url)
    assert caught.value.code == "connection_failed"
    assert site.hits["/robots.txt"] == asked

    site.add_body("/robots.txt", b"")
    clock.now += robots.UNREACHABLE_SECONDS
    await policy.check(url)


async def lost(request: web.Request) -> web.Response:
    assert request.transport
    request.transport.abort()
    return web.Response()


async def test_least_recently_used_rules_go_first(
    policy: RobotsPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robots, "_MOST_ORIGINS", 2)
    async with open_site() as one, open_site() as two, open_site() as three:
        for site in (one, two, one, three, one, two):
            await policy.check(URL(site.url("/")))

        asked = [site.hits["/robots.txt"] for site in (one, two, three)]

    assert asked == [1, 2, 1]


async def test_large_files_push_each_other_out(
    policy: RobotsPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robots, "_MOST_CHARACTERS", 1000)
    async with open_site() as one, open_site() as two:
        for site in (one, two):
            site.add_body("/robots.txt", b"User-agent: *\nDisallow: /a\n" + b"#" * 600)
        for site in (one, two, one):
            await policy.check(URL(site.url("/")))

        assert one.hits["/robots.txt"] == 2


async def test_file_that_is_slow_to_match_does_not_hold_up_the_others(
    site: WebSite, policy: RobotsPolicy
) -> None:
    rules = b"".join(b"Disallow: /*a*%d*b$\n" % number for number in range(20_000))
    url = URL(site.add_body("/robots.txt", b"User-agent: *\n" + rules))
    await policy.check(url / "first")
    turns = 0

    check = asyncio.create_task(policy.check(url / ("ab" * 3000)))
    while not check.done():
        await asyncio.sleep(0)
        turns += 1

    await check
    assert turns > 100
    with pytest.raises(RefusedDownloadError):
        await policy.check(url / "xa7b")
