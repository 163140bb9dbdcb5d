"""Speed and memory of accepting a long list.

``python -m tests.bench.lists [LINES]`` prints, for a text list and a table, the lines a second
from the first byte sent to the 202, and how far the fetcher's process grew: until then, and while
the batch is in flight afterwards. Servers are found as the tests find them.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import aiohttp
from pydantic import AmqpDsn, HttpUrl, MongoDsn
from pymongo import MongoClient

from infra.local.ports import pick_free_ports
from infra.local.stack import Addresses
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from tests.support.fetcher import (
    Surroundings,
    fetcher_process,
    get_json,
    open_surroundings,
    wait_ready,
)
from tests.support.servers import real_servers

LINES = 1_000_000
IN_FLIGHT_SECONDS = 30
HOSTS = 200


def memory_mib(pid: int, field: str) -> float:
    """Return ``VmRSS`` or ``VmHWM`` (the highest so far) of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (each for each in status.splitlines() if each.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def write_list(path: Path, lines: int) -> None:
    """Write a list whose hosts refuse connections: what is measured is the list."""
    with path.open("w") as file:
        if path.suffix == ".csv":
            file.write("url,annotation\n")
        for number in range(lines):
            url = f"http://127.0.0.{number % HOSTS + 1}:1/scans/2026/{number:08d}.png"
            file.write(
                f'{url},"line {number}, as ""read"""\n' if path.suffix == ".csv" else f"{url}\n"
            )


@asynccontextmanager
async def surroundings(servers: Addresses) -> AsyncIterator[Surroundings]:
    """Give a virtual host, a bucket and a database of its own, and drop them afterwards."""
    name = f"bench-{uuid4().hex}"
    user = servers.rabbitmq_management_user
    password = servers.rabbitmq_management_password.get_secret_value()
    headers = {"Authorization": aiohttp.encode_basic_auth(user, password)}
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    amqp_url = f"{servers.amqp_url.get_secret_value().rstrip('/')}/{name}"
    mongo_url = servers.mongo_url.get_secret_value()
    s3 = S3Settings(
        endpoint_url=HttpUrl(servers.s3_endpoint_url),
        access_key_id=servers.s3_access_key_id,
        secret_access_key=servers.s3_secret_access_key,
        bucket=name,
    )
    async with aiohttp.ClientSession(
        f"{servers.rabbitmq_management_url}/api/", headers=headers, raise_for_status=True
    ) as management:
        await management.put(f"vhosts/{name}")
        await management.put(f"permissions/{name}/{user}", json=everything)
        try:
            amqp = AmqpSettings(url=AmqpDsn(amqp_url))
            mongo = MongoSettings(url=MongoDsn(mongo_url), database=name)
            async with open_surroundings(s3, amqp, mongo) as made:
                yield made
                await made.store.client.delete_bucket(Bucket=name)
        finally:
            await management.delete(f"vhosts/{name}")
            with MongoClient[dict[str, object]](mongo_url) as client:
                client.drop_database(name)


async def measure(servers: Addresses, path: Path, lines: int) -> None:
    """Submit one list to a fetcher of its own, and print what that took."""
    port = pick_free_ports().fetcher_port
    async with (
        surroundings(servers) as made,
        aiohttp.ClientSession(
            f"http://127.0.0.1:{port}", timeout=aiohttp.ClientTimeout(total=None)
        ) as api,
    ):
        with fetcher_process(made, port) as process:
            await wait_ready(api)
            before = memory_mib(process.pid, "VmRSS")
            started = time.perf_counter()
            with path.open("rb") as file:
                form = aiohttp.FormData()
                form.add_field("file", file, filename=path.name)
                async with api.post("/batches", data=form) as response:
                    submitted = await response.json()
            seconds = time.perf_counter() - started
            assert response.status == 202, submitted
            assert submitted["accepted"] == lines, submitted
            grown = memory_mib(process.pid, "VmHWM") - before
            sys.stdout.write(
                f"{path.suffix[1:]}: {lines} lines in {seconds:.1f} s, "
                f"{lines / seconds:.0f} lines/s, grown by {grown:.0f} MiB from {before:.0f} MiB\n"
            )
            await asyncio.sleep(IN_FLIGHT_SECONDS)
            started = time.perf_counter()
            batch = await get_json(api, submitted["status_url"])
            shown = time.perf_counter() - started
            counts = batch["counts"]
            assert sum(counts.values()) == lines, counts
            sys.stdout.write(
                f"  {IN_FLIGHT_SECONDS} s later: {lines - counts['queued']} done, status in "
                f"{shown:.2f} s, most memory {memory_mib(process.pid, 'VmHWM'):.0f} MiB\n"
            )


async def main(lines: int) -> None:
    """Measure both formats, one after the other."""
    with real_servers() as servers, TemporaryDirectory() as folder:
        for suffix in ("txt", "csv"):
            path = Path(folder, f"list.{suffix}")
            write_list(path, lines)
            await measure(servers, path, lines)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else LINES))
