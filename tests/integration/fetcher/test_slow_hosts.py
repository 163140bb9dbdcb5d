"""Hosts that are slow, or throttle, with the real delays and a RabbitMQ that is in a hurry."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from pydantic import AmqpDsn

from infra.local import locate, servers
from infra.local.ports import pick_free_ports
from infra.local.servers import Home
from infra.local.settings import LocalSettings
from infra.local.stack import located
from infra.local.supervisor import Supervisor
from services.common.adapters.rabbitmq.retry_policy import DELAY_SECONDS, FETCH_QUEUES
from services.common.domain.errors import PostponedError
from services.common.download.errors import FailedDownloadError
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from services.fetcher.politeness import host
from services.fetcher.politeness.host import HostRepository, HostState
from services.fetcher.politeness.scheduler import MOST_HELD_SECONDS, HostScheduler, SlotLimits
from tests.support.fetcher import (
    Surroundings,
    fetcher_process,
    get_json,
    hosts_by_partition,
    open_surroundings,
    running_fetcher,
    submit,
    wait_done,
    wait_ready,
)
from tests.support.waiting import eventually
from tests.support.web import WebSite, open_site, png

REAL_DELAYS_MS = [round(1000 * seconds) for seconds in DELAY_SECONDS]
HELD_MS = 1000 * (round(MOST_HELD_SECONDS) + 5)
"""RabbitMQ's limit of holding a delivery."""


@pytest.fixture
async def hasty_amqp(tmp_path: Path) -> AsyncIterator[tuple[AmqpSettings, Path]]:
    """A RabbitMQ that closes the channels of who holds deliveries for ``HELD_MS``, and its log."""
    home = Home(LocalSettings(folder=tmp_path), pick_free_ports())
    epmd = servers.epmd(located("RabbitMQ", locate.locate_epmd), home)
    rabbitmq = servers.rabbitmq(located("RabbitMQ", locate.locate_rabbitmq), home)
    (home.folder("rabbitmq") / "advanced.config").write_text(
        f"[{{rabbit, [{{consumer_timeout, {HELD_MS}}}, {{channel_tick_interval, 500}}]}}]."
    )
    async with Supervisor(on_event=lambda _: None) as supervisor:
        await supervisor.start(epmd)
        await supervisor.start(rabbitmq)
        yield AmqpSettings(url=AmqpDsn(home.amqp_url)), home.log_path("rabbitmq")


async def test_no_delivery_is_held_until_rabbitmq_closes_its_channel(
    s3_settings: S3Settings, hasty_amqp: tuple[AmqpSettings, Path], mongo_settings: MongoSettings
) -> None:
    amqp, log = hasty_amqp
    async with (
        open_surroundings(
            s3_settings, amqp, mongo_settings, delays_ms=REAL_DELAYS_MS
        ) as surroundings,
        open_site() as site,
        running_fetcher(surroundings) as api,
    ):
        site.add_body("/robots.txt", b"User-agent: *\nCrawl-delay: 1\n", content_type="text/plain")
        urls = [site.add_body(f"/{number}", png(number)) for number in range(HELD_MS // 1000 + 10)]
        batch = await wait_done(api, (await submit(api, *urls))["batch_id"])

    assert batch["counts"]["stored"] == len(urls)
    assert "timed out" not in log.read_text()


async def test_crawl_delays_hold_up_no_other_host_of_the_partition(
    s3_settings: S3Settings, private_amqp_settings: AmqpSettings, mongo_settings: MongoSettings
) -> None:
    async with AsyncExitStack() as stack:
        surroundings = await stack.enter_async_context(
            open_surroundings(
                s3_settings, private_amqp_settings, mongo_settings, delays_ms=REAL_DELAYS_MS
            )
        )
        fast, *slow = await sites_of_one_partition(stack, surroundings, 3)
        wanted = [fast.add_body(f"/{number}", png(number)) for number in range(500)]
        for site in slow:
            site.add_body(
                "/robots.txt", b"User-agent: *\nCrawl-delay: 300\n", content_type="text/plain"
            )
        others = [site.add_body(f"/{each}", png(each)) for each in range(150) for site in slow]
        async with running_fetcher(surroundings) as api:
            first = (await submit(api, *others))["batch_id"]
            batch = await wait_done(api, (await submit(api, *wanted))["batch_id"])
            counts = (await get_json(api, f"/batches/{first}"))["counts"]

    assert batch["counts"]["stored"] == 500
    assert counts["queued"] == len(others) - len(slow)  # the rest of them delayed no others
    assert [site.hits.total() for site in slow] == [2, 2]  # robots.txt, and an image


async def test_pause_of_a_host_outlives_the_fetcher(surroundings: Surroundings) -> None:
    async def throttle(_: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "600"})

    port = pick_free_ports().fetcher_port
    async with AsyncExitStack() as stack:
        throttled, other = await sites_of_one_partition(stack, surroundings, 2)
        urls = [throttled.add(f"/{number}", throttle) for number in range(3)]
        host = throttled.base_url.removeprefix("http://")
        first = await stack.enter_async_context(aiohttp.ClientSession(f"http://127.0.0.1:{port}"))
        with fetcher_process(surroundings, port):
            await wait_ready(first)
            await submit(first, *urls)
            await eventually(lambda: surroundings.database.hosts.find_one({"_id": host}))
            (shown,) = (await get_json(first, "/hosts"))["hosts"]
        asked = throttled.hits.total()

        async with running_fetcher(surroundings) as second:
            await submit(second, throttled.add("/later", throttle))
            images = [other.add_body(f"/{number}", png(number)) for number in range(50)]
            batch = await wait_done(second, (await submit(second, *images))["batch_id"])

    assert batch["counts"]["stored"] == 50
    assert throttled.hits.total() == asked
    assert (shown["host"], shown["reason"]) == (host, "throttled")


async def test_returning_partition_has_what_others_learnt_of_hosts(
    surroundings: Surroundings,
) -> None:
    """One process has a host, then another, then the first again: its memory is out of date."""
    hosts = HostRepository(surroundings.database.hosts)
    first = HostScheduler(SlotLimits(4, 4), hosts)
    second = HostScheduler(SlotLimits(4, 4), hosts)
    async with first.slot("a.test"):
        first.record_response("a.test")
    async with second.slot("a.test"):
        await second.record_failure(
            "a.test", FailedDownloadError("rate_limited", "429", retry_after_seconds=500)
        )

    first.reload()

    with pytest.raises(PostponedError) as caught:
        async with first.slot("a.test"):
            pytest.fail("it is paused")
    assert 490 < caught.value.seconds <= 500


async def test_expired_and_surplus_pauses_are_not_kept(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = HostRepository(surroundings.database.hosts)
    monkeypatch.setattr(host, "MOST_HOSTS", 2)

    await hosts.save("over.test", HostState(pause_seconds=0))
    paused = HostState(pause_seconds=50, is_unresponsive=True, pauses=2)
    await asyncio.gather(*(hosts.save("paused.test", paused) for _ in range(20)))
    await hosts.save("one-too-many.test", HostState(pause_seconds=50))
    await hosts.save("paused.test", HostState(pause_seconds=100, is_unresponsive=True, pauses=2))
    await hosts.save("paused.test", HostState(pause_seconds=10, is_unresponsive=True, pauses=3))

    assert await hosts.find("over.test") is None
    assert await hosts.find("one-too-many.test") is None
    found = await hosts.find("paused.test")
    assert found is not None
    assert 90 < found.pause_seconds <= 100
    assert (found.is_unresponsive, found.pauses) == (True, 3)
    (shown,) = await hosts.delayed(limit=10)
    assert (shown.host, shown.reason) == ("paused.test", "silent")


async def sites_of_one_partition(
    stack: AsyncExitStack, surroundings: Surroundings, count: int
) -> list[WebSite]:
    """Serve so many hosts that ``count`` of them must be in one partition; return those."""
    most = len(FETCH_QUEUES.partitions) * (count - 1) + 1
    sites = [
        await stack.enter_async_context(open_site(f"127.0.1.{number}"))
        for number in range(1, most + 1)
    ]
    by_host = {site.base_url.removeprefix("http://"): site for site in sites}
    partitions = await hosts_by_partition(surroundings, list(by_host))
    hosts = max(partitions.values(), key=len)
    return [by_host[host] for host in hosts[:count]]
