"""Hosts are asked no more than they should be, and those that give trouble hold up no others."""

import asyncio
import time
from contextlib import AsyncExitStack, ExitStack
from itertools import count
from typing import Any

import aiohttp
from aiohttp import web

from infra.local.ports import pick_free_ports
from services.common.domain.provenance import from_metadata
from tests.support.fetcher import (
    Surroundings,
    fetcher_process,
    get_json,
    items_by_url,
    running_fetcher,
    submit,
    wait_done,
    wait_ready,
)
from tests.support.waiting import eventually, until
from tests.support.web import WebSite, open_raw_server, open_site, png

HOST_CONCURRENCY = 2
HOSTS = 32
"""Enough hosts to be in more partitions than one of two processes keeps: in half of them."""


class Watched:
    """A slow host that notes how many ask at once."""

    def __init__(self, site: WebSite) -> None:
        self._site = site
        self._active = 0
        self.most_at_once = 0

    def add(self, path: str, body: bytes) -> str:
        async def handle(_: web.Request) -> web.Response:
            self._active += 1
            self.most_at_once = max(self.most_at_once, self._active)
            try:
                await asyncio.sleep(0.3)
            finally:
                self._active -= 1
            return web.Response(body=body)

        return self._site.add(path, handle)


class Timed:
    """A host that notes when its robots.txt and its images were asked for."""

    def __init__(self, site: WebSite, robots: str = "") -> None:
        self._site = site
        self._robots = robots
        self._first_seen: float | None = None
        self._times: list[float] = []
        site.add("/robots.txt", self._answer_robots)

    def add(self, path: str) -> str:
        return self._site.add(path, self._answer)

    @property
    def seconds(self) -> list[float]:
        """From robots.txt to each image: not the gaps, as a busy machine may note one late."""
        assert self._first_seen is not None
        return [at - self._first_seen for at in self._times]

    async def _answer_robots(self, _: web.Request) -> web.Response:
        self._first_seen = self._first_seen or time.monotonic()
        return web.Response(text=self._robots)

    async def _answer(self, _: web.Request) -> web.Response:
        self._times.append(time.monotonic())
        return web.Response(body=png(len(self._times)))


async def stored_by(api: aiohttp.ClientSession) -> float:
    """Return how many items one process stored."""
    async with api.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    prefix = 'fetcher_items_total{code="stored",outcome="stored"} '
    return sum(float(line.removeprefix(prefix)) for line in lines if line.startswith(prefix))


async def test_host_concurrency_holds_over_changing_processes(surroundings: Surroundings) -> None:
    ports = [pick_free_ports().fetcher_port for _ in range(2)]
    limits = {"host_concurrency": str(HOST_CONCURRENCY)}
    async with AsyncExitStack() as stack:
        sites = [
            await stack.enter_async_context(open_site(f"127.0.0.{each}"))
            for each in range(1, HOSTS + 1)
        ]
        hosts = [Watched(site) for site in sites]
        urls = [
            host.add(f"/{number}", png(100 * each + number))
            for number in range(30)
            for each, host in enumerate(hosts)
        ]
        first, second = [
            await stack.enter_async_context(aiohttp.ClientSession(f"http://127.0.0.1:{port}"))
            for port in ports
        ]
        processes = stack.enter_context(ExitStack())
        killed = processes.enter_context(fetcher_process(surroundings, ports[0], **limits))
        await wait_ready(first)
        processes.enter_context(fetcher_process(surroundings, ports[1], **limits))
        await wait_ready(second)
        numbers = count(5000)

        async def is_shared() -> float:
            few = [host.add(f"/early-{next(numbers)}", png(next(numbers))) for host in hosts]
            await wait_done(first, (await submit(first, *few))["batch_id"])
            return await stored_by(second)

        await eventually(is_shared)  # hosts were handed over
        batch_id = (await submit(first, *urls))["batch_id"]
        await eventually(lambda: stored_by(first))
        before = (await get_json(second, f"/batches/{batch_id}"))["counts"]
        killed.kill()
        batch = await wait_done(second, batch_id)

    assert before["queued"] > 0
    assert batch["counts"]["stored"] == len(urls)
    assert max(host.most_at_once for host in hosts) == HOST_CONCURRENCY


async def test_host_rate_is_of_all_processes_together(surroundings: Surroundings) -> None:
    ports = [pick_free_ports().fetcher_port for _ in range(2)]
    async with AsyncExitStack() as stack:
        hosts = [
            Timed(await stack.enter_async_context(open_site(f"127.0.0.{each}")))
            for each in range(1, 9)
        ]
        for port in ports:
            stack.enter_context(fetcher_process(surroundings, port, host_rate="4"))
        first, second = [
            await stack.enter_async_context(aiohttp.ClientSession(f"http://127.0.0.1:{port}"))
            for port in ports
        ]
        await wait_ready(first)
        await wait_ready(second)
        urls = [host.add(f"/{number}") for number in range(10) for host in hosts]
        await wait_done(first, (await submit(first, *urls))["batch_id"])

    for host in hosts:
        assert len(host.seconds) >= 10
        # The first slot is before robots.txt, and a process that takes over knows of none
        assert all(at >= (number - 2) / 4 for number, at in enumerate(host.seconds))


async def test_host_that_does_not_answer_holds_up_no_other(
    surroundings: Surroundings, site: WebSite
) -> None:
    good = [site.add_body(f"/{number}", png(number)) for number in range(100)]
    async with open_raw_server(b"", stays_open=True) as dead:
        mixed = [url for number in range(400) for url in (f"{dead}{number}", good[number % 100])]
        async with running_fetcher(surroundings, concurrency=4) as api:
            batch_id = (await submit(api, *dict.fromkeys(mixed)))["batch_id"]
            counts = await eventually(lambda: counts_where(api, batch_id, stored=100))
            async with api.post(f"/batches/{batch_id}/cancel") as response:
                assert response.status == 200

    assert counts["failed"] == 0  # the dead host is still waited for


async def test_items_of_a_host_that_does_not_answer_end(surroundings: Surroundings) -> None:
    async with open_raw_server(b"", stays_open=True) as dead:
        bad = [f"{dead}{number}" for number in range(150)]
        async with running_fetcher(surroundings, concurrency=4, idle_timeout_seconds=0.5) as api:
            batch_id = (await submit(api, *bad))["batch_id"]
            batch = await wait_done(api, batch_id)
            items = await items_by_url(api, batch_id)

    assert batch["counts"]["failed"] == 150
    codes = {items[url]["code"] for url in bad}
    assert "host_paused" in codes
    assert codes <= {"host_paused", "timeout"}
    assert max(items[url]["attempts"] for url in bad) > 1


async def counts_where(
    api: aiohttp.ClientSession, batch_id: str, **least: int
) -> dict[str, int] | None:
    counts: dict[str, int] = (await get_json(api, f"/batches/{batch_id}"))["counts"]
    return counts if all(counts[name] >= count for name, count in least.items()) else None


async def test_slow_host_holds_up_no_other(surroundings: Surroundings, site: WebSite) -> None:
    good = [site.add_body(f"/{number}", png(number)) for number in range(60)]

    async def answer_after_others(_: web.Request) -> web.Response:
        wanted = site.hits.total() + 20
        await until(lambda: site.hits.total() >= wanted)
        return web.Response(body=png(1000))

    async with open_site("127.0.0.2") as slow, running_fetcher(surroundings, concurrency=4) as api:
        bad = [slow.add(f"/{number}", answer_after_others) for number in range(60)]
        batch_id = (await submit(api, *bad, *good))["batch_id"]

        async def items_once_good_are_stored() -> dict[str, dict[str, Any]] | None:
            items = await items_by_url(api, batch_id)
            return items if all(items[url]["outcome"] == "stored" for url in good) else None

        items = await eventually(items_once_good_are_stored)
        async with api.post(f"/batches/{batch_id}/cancel") as response:
            assert response.status == 200

    outcomes = {items[url]["outcome"] for url in bad}
    assert outcomes == {"stored", "queued"}


async def test_throttling_host_is_paused(surroundings: Surroundings, site: WebSite) -> None:
    times: list[float] = []

    async def handle(_: web.Request) -> web.Response:
        times.append(time.monotonic())
        if len(times) == 1:
            return web.Response(status=429, headers={"Retry-After": "2"})
        return web.Response(body=png(len(times)))

    urls = [site.add(f"/{number}", handle) for number in range(5)]
    async with open_site("127.0.0.2") as other, running_fetcher(surroundings) as api:
        batch_id = (await submit(api, *urls, other.add_body("/x", png(99))))["batch_id"]
        batch = await wait_done(api, batch_id)

    assert batch["counts"]["stored"] == 6
    assert times[1] - times[0] >= 2


async def test_crawl_delay_of_robots_txt_is_kept(surroundings: Surroundings, site: WebSite) -> None:
    host = Timed(site, "User-agent: *\nCrawl-delay: 0.5\n")
    urls = [host.add(f"/{number}") for number in range(4)]
    async with running_fetcher(surroundings) as api:
        await wait_done(api, (await submit(api, *urls))["batch_id"])

    assert len(host.seconds) == 4
    assert all(at >= 0.5 * number for number, at in enumerate(host.seconds))


async def test_same_list_again_asks_only_whether_anything_changed(
    surroundings: Surroundings, site: WebSite
) -> None:
    sent: list[int] = []

    async def handle(request: web.Request) -> web.Response:
        if request.headers.get("If-None-Match") == '"1"':
            sent.append(304)
            return web.Response(status=304, headers={"ETag": '"1"'})
        sent.append(200)
        return web.Response(body=png(1), headers={"ETag": '"1"'})

    url = site.add("/a", handle)
    async with running_fetcher(surroundings) as api:
        outcomes = []
        for _ in range(3):
            batch_id = (await submit(api, url))["batch_id"]
            await wait_done(api, batch_id)
            outcomes.append((await items_by_url(api, batch_id))[url])
            info = await surroundings.store.head(outcomes[0]["key"])
            assert info is not None
            assert info.metadata["batch-id"] == batch_id
        key = outcomes[0]["key"]
        await surroundings.store.delete(key)
        batch_id = (await submit(api, url))["batch_id"]
        await wait_done(api, batch_id)
        again = (await items_by_url(api, batch_id))[url]

    assert [each["outcome"] for each in outcomes] == ["stored", "unchanged", "unchanged"]
    assert {each["key"] for each in outcomes} == {key}
    assert (again["outcome"], again["key"]) == ("stored", key)  # the object was gone
    assert sent == [200, 304, 304, 304, 200]


async def test_secrets_of_a_url_are_not_kept_with_the_object(
    surroundings: Surroundings, site: WebSite
) -> None:
    url = site.add_body("/a", png(1)) + "?page=1&token=s3cret"
    async with running_fetcher(surroundings) as api:
        batch_id = (await submit(api, url))["batch_id"]
        await wait_done(api, batch_id)
        ((shown, item),) = (await items_by_url(api, batch_id)).items()

    info = await surroundings.store.head(item["key"])
    assert info is not None
    source = from_metadata(dict(info.metadata)).source_url
    assert source == shown == site.url("/a?page=1&token=REDACTED")
