"""Speed of the fetcher: ``python -m tests.bench.fetch [--items N] [--runs N] [--only NAME …]``.

* ``rate``: URL → object in MinIO and document, beside a bare loop of aiohttp and aiobotocore
  without any promise, and beside img2dataset writing single files to the same MinIO (installed into
  an environment of its own; with and without its start); runs alternate, medians are compared. Also
  the CPU that an item costs in each program, which depends little on who else uses the machine.
* ``hosts``: 200 hosts of which 10 never answer and 10 send 1 kB/s, beside the same without these.
* ``memory``: RSS of a fetcher with a long list in flight, a sample a second; then it is cancelled.

The fetcher is as by default (robots.txt, guard, 8 downloads at once from a host) but for two
settings: it may fetch from loopback, and as often as it can (``FETCHER_HOST_RATE=0``).
Servers are found as the tests find them.
"""

import argparse
import asyncio
import hashlib
import os
import re
import statistics
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import aiohttp
from rich.console import Console
from rich.table import Table

from infra.local.ports import pick_free_ports
from infra.local.stack import Addresses
from services.common.adapters.object_store import ObjectStore
from tests.bench.img2dataset import Img2dataset
from tests.bench.lists import memory_mib, surroundings
from tests.bench.processes import cpu_of, servers_of
from tests.support.fetcher import Surroundings, fetcher_process, get_json, wait_ready
from tests.support.servers import real_servers
from tests.support.static_site import host, static_site

if TYPE_CHECKING:
    from types_aiobotocore_s3.type_defs import ObjectIdentifierTypeDef

ITEMS = 5000
RUNS = 5
LOOP_AT_ONCE = 64
HOSTS, DEAD, SLOW = 200, 10, 10
MEMORY_LINES = 1_000_000
MEMORY_SECONDS = 180


@asynccontextmanager
async def room(servers: Addresses) -> AsyncIterator[Surroundings]:
    """Give surroundings whose bucket is emptied afterwards."""
    async with surroundings(servers) as around:
        yield around
        client, bucket = around.store.client, around.store.bucket
        async for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            found: list[ObjectIdentifierTypeDef] = [
                {"Key": each["Key"]} for each in page.get("Contents", [])
            ]
            if found:
                await client.delete_objects(Bucket=bucket, Delete={"Objects": found})


def urls(port: int, count: int, *, hosts: int = 1, start: int = 0) -> list[str]:
    """Return URLs that take turns with the hosts from ``start`` on."""
    return [
        f"http://{host(start + number % hosts)}:{port}/{number:08d}.png" for number in range(count)
    ]


@asynccontextmanager
async def fetcher(around: Surroundings) -> AsyncIterator[tuple[aiohttp.ClientSession, int]]:
    """Run a fetcher process with everything as it is by default but the rate of one host."""
    port = pick_free_ports().fetcher_port
    with fetcher_process(around, port) as process:
        patience = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=patience) as api:
            await wait_ready(api)
            yield api, process.pid


async def fetched(
    around: Surroundings,
    wanted: Sequence[str],
    enough: int,
    programs: Mapping[str, int] = MappingProxyType({}),
    cpu: dict[str, float] | None = None,
) -> float:
    """Return the rate at which the fetcher stores ``enough`` of the items.

    Args:
        around: Its servers.
        wanted: URLs.
        enough: Items.
        programs: Whose CPU, beside the fetcher's, is added to ``cpu``.
        cpu: Seconds, by program.
    """
    async with fetcher(around) as (api, pid):
        began = time.perf_counter()
        with cpu_of({"fetcher": pid, **programs}, {} if cpu is None else cpu):
            body = "\n".join(wanted).encode()
            async with api.post(
                "/batches", data=body, headers={"Content-Type": "text/plain"}
            ) as answer:
                batch_id = (await answer.json())["batch_id"]
            while True:
                if await stored(api) >= enough:
                    break
                await asyncio.sleep(0.1)
            seconds = time.perf_counter() - began
        counts: dict[str, int] = (await get_json(api, f"/batches/{batch_id}"))["counts"]
        assert counts["stored"] + counts["unchanged"] >= enough, counts
        return enough / seconds


async def stored(api: aiohttp.ClientSession) -> int:
    """Return how many items a new fetcher has stored, by its metrics: a query would slow it."""
    async with api.get("/metrics") as answer:
        text = await answer.text()
    counts = re.findall(r'^fetcher_items_total{.*outcome="stored".*} (.+)$', text, re.MULTILINE)
    return int(sum(map(float, counts)))


async def looped(store: ObjectStore, wanted: Sequence[str]) -> float:
    """Return the rate of a bare loop."""
    waiting = iter(wanted)

    async def work(session: aiohttp.ClientSession) -> None:
        for url in waiting:
            async with session.get(url) as response:
                content = await response.read()
            key = f"loop/{hashlib.sha256(content).hexdigest()}.png"
            await store.client.put_object(
                Bucket=store.bucket, Key=key, Body=content, ContentType="image/png"
            )

    began = time.perf_counter()
    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(work(session) for _ in range(LOOP_AT_ONCE)))
    return len(wanted) / (time.perf_counter() - began)


class Rates:
    """Results of runs: items per second, and CPU of each program."""

    def __init__(self) -> None:
        self.rates: dict[str, list[float]] = {}
        self.cpu: dict[str, dict[str, float]] = {"fetcher": {}, "bare loop": {}}
        self.items = 0

    def add(self, name: str, rate: float) -> None:
        """Add one run."""
        self.rates.setdefault(name, []).append(rate)

    def figures(self) -> dict[str, float]:
        """Return medians, the ratios between them, and CPU of an item, in ms."""
        medians = {name: statistics.median(each) for name, each in self.rates.items()}
        found = {f"{name}, items/s": rate for name, rate in medians.items()}
        for name, rate in medians.items():
            if name != "fetcher":
                found[f"fetcher / {name}"] = medians["fetcher"] / rate
        for name, used in self.cpu.items():
            costs = {program: 1000 * each / self.items for program, each in used.items()}
            found |= {f"CPU of an item, {name}: {each}, ms": ms for each, ms in costs.items()}
            found[f"CPU of an item, {name}: all, ms"] = sum(costs.values())
        spent = {name: sum(used.values()) for name, used in self.cpu.items()}
        found["bare loop's CPU / fetcher's"] = spent["bare loop"] / spent["fetcher"]
        return found


async def rates(items: int, runs: int, *, hosts: int, with_peer: bool) -> dict[str, float]:
    """Compare the fetcher, the bare loop, and img2dataset; each run has a bucket of its own."""
    found = Rates()
    port = pick_free_ports().fetcher_port
    wanted = urls(port, items, hosts=hosts)
    with (
        real_servers() as servers,
        static_site(port, hosts=hosts),
        TemporaryDirectory(prefix="docreco-bench-") as folder,
    ):
        peer = Img2dataset(Path(folder)) if with_peer else None
        programs = servers_of(servers)
        for _ in range(runs):
            found.items += items
            async with room(servers) as around:
                rate = await fetched(around, wanted, items, programs, found.cpu["fetcher"])
                found.add("fetcher", rate)
            alone = {name: pid for name, pid in programs.items() if name == "MinIO"}
            async with room(servers) as around:
                with cpu_of({"loop": os.getpid(), **alone}, found.cpu["bare loop"]):
                    found.add("bare loop", await looped(around.store, wanted))
            if peer is not None:
                async with room(servers) as around:
                    whole, running = await asyncio.to_thread(peer.rates, around, wanted)
                    found.add("img2dataset", whole)
                    found.add("img2dataset without its start", running)
    return found.figures()


async def many_hosts(items: int, runs: int) -> dict[str, float]:
    """Compare 200 hosts of which some are dead or slow with as many items of good ones."""
    found: dict[str, list[float]] = {"all hosts good": [], "20 bad hosts": []}
    port = pick_free_ports().fetcher_port
    bad = DEAD + SLOW
    good = HOSTS - bad
    with real_servers() as servers, static_site(port, hosts=HOSTS, dead=DEAD, slow=SLOW):
        for _ in range(runs):
            async with room(servers) as around:
                rate = await fetched(around, urls(port, items, hosts=good, start=bad), items)
                found["all hosts good"].append(rate)
            async with room(servers) as around:
                mixed = urls(port, items * HOSTS // good, hosts=HOSTS)
                found["20 bad hosts"].append(await fetched(around, mixed, items))
    medians = {name: statistics.median(each) for name, each in found.items()}
    ratio = medians["20 bad hosts"] / medians["all hosts good"]
    return {**{f"{name}, items/s": each for name, each in medians.items()}, "ratio": ratio}


async def memory(lines: int) -> dict[str, float]:
    """Return the RSS of a fetcher, in MiB, with a long list in flight."""
    port = pick_free_ports().fetcher_port
    # before the client connects: an idle connection would be closed meanwhile
    body = "\n".join(urls(port, lines, hosts=HOSTS)).encode()
    with real_servers() as servers, static_site(port, hosts=HOSTS):
        async with room(servers) as around, fetcher(around) as (api, pid):
            async with api.post(
                "/batches", data=body, headers={"Content-Type": "text/plain"}
            ) as answer:
                assert answer.status == 202, await answer.text()
                status_url = (await answer.json())["status_url"]
            samples = []
            for _ in range(MEMORY_SECONDS):
                await asyncio.sleep(1)
                samples.append(memory_mib(pid, "VmRSS"))
            async with api.post(f"{status_url}/cancel") as answer:
                counts: dict[str, int] = (await answer.json())["counts"]
            return {
                "items stored meanwhile": counts["stored"],
                "RSS in flight, median MiB": statistics.median(samples),
                "RSS in flight, highest MiB": max(samples),
                "highest of all, list included, MiB": memory_mib(pid, "VmHWM"),
            }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fetch", description=__doc__)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--runs", "--rounds", type=int, default=RUNS)
    parser.add_argument("--lines", type=int, default=MEMORY_LINES, help="of the list in flight")
    parser.add_argument("--only", nargs="+", choices=["rate", "hosts", "memory"], default=None)
    parser.add_argument("--hosts", type=int, default=1, help="that the list's items are of")
    parser.add_argument("--no-peer", action="store_true", help="without img2dataset")
    given = parser.parse_args()
    parts: dict[str, Any] = {
        "rate": lambda: rates(
            given.items, given.runs, hosts=given.hosts, with_peer=not given.no_peer
        ),
        "hosts": lambda: many_hosts(given.items, given.runs),
        "memory": lambda: memory(given.lines),
    }
    title = f"{given.items} items, {given.runs} runs, FETCHER_HOST_RATE=0"
    table = Table("", "median", title=title)
    for name in given.only or parts:
        for what, figure in asyncio.run(parts[name]()).items():
            table.add_row(what, f"{figure:.2f}" if figure < 10 else f"{figure:.0f}")
    Console(file=sys.stdout).print(table)


if __name__ == "__main__":
    main()
