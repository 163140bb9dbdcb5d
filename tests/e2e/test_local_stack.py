"""``python -m infra.local.stack up``: what it leaves behind, and what it keeps."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import aio_pika
from aio_pika.abc import AbstractQueue
from pydantic import HttpUrl, SecretStr

from infra.local.settings import child_environment
from services.common.adapters.object_store import open_object_store
from services.common.runtime.settings import S3Settings
from services.provisioner.bucket import set_up_bucket
from services.provisioner.notification_rules import HEX
from tests.support.notifying import USUAL_ARN
from tests.support.waiting import DEADLINE_SECONDS, deadline, eventually, until


@contextmanager
def stack(folder: Path, *, targets: int = 1) -> Iterator[subprocess.Popen[bytes]]:
    """Run the servers on free ports, with their data in ``folder``."""
    (folder / "env").unlink(missing_ok=True)
    with subprocess.Popen(  # noqa: S603  our own command
        [
            *(sys.executable, "-m", "infra.local.stack", "up", "--free-ports"),
            *("--folder", str(folder / "servers"), "--env-file", str(folder / "env")),
        ],
        env=child_environment({"PROVISIONER_NOTIFICATION_TARGETS": str(targets)}),
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


async def addresses_of(folder: Path) -> dict[str, str]:
    """Wait until the servers of ``folder`` are up; return their settings."""

    async def content() -> str | None:
        return (folder / "env").read_text() if (folder / "env").exists() else None

    lines = (await eventually(content)).splitlines()
    return dict(line.removeprefix("export ").split("=", 1) for line in lines)


async def settings_of(folder: Path) -> S3Settings:
    """Wait until the servers of ``folder`` are up; return their store."""
    values = await addresses_of(folder)
    return S3Settings(
        endpoint_url=HttpUrl(values["S3_ENDPOINT_URL"]),
        access_key_id=values["S3_ACCESS_KEY_ID"],
        secret_access_key=SecretStr(values["S3_SECRET_ACCESS_KEY"]),
    )


def descendants(pid: int) -> set[int]:
    """Return the processes that come from a process, however far."""
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    found, new = set[int](), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new}
        found |= new
    return found


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def all_gone(pids: set[int]) -> None:
    await until(lambda: not any(map(exists, pids)))


@asynccontextmanager
async def events_queue(folder: Path) -> AsyncIterator[AbstractQueue]:
    """Give a durable queue of the bucket's events."""
    url = (await addresses_of(folder))["AMQP_URL"]
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange("raw.events", "topic", durable=True)
        queue = await channel.declare_queue("events", durable=True)
        await queue.bind(exchange, "raw")
        yield queue


async def test_killed_stack_leaves_no_process_and_loses_no_event(tmp_path: Path) -> None:
    """Nor do targets that are no longer in use."""
    shared = [f"fetched/{digit}0/{digit}{'0' * 63}.png" for digit in HEX]
    others = ["scan.png", "été.png", "扫描件/第一页.png", "fetched", f"{'long/' * 20}é.png"]
    with stack(tmp_path, targets=4) as process:
        settings = await settings_of(tmp_path)
        async with open_object_store(settings) as store, events_queue(tmp_path):
            for targets, keys in ((4, shared[:8]), (3, others), (2, shared[8:])):
                await set_up_bucket(store, notification_arn=USUAL_ARN, targets=targets)
                for key in keys:
                    await store.write(key, b"content", content_type="image/png", metadata={})
            await set_up_bucket(store, notification_arn=USUAL_ARN, targets=1)
        children = descendants(process.pid)
        assert len(children) >= 4  # MinIO, MongoDB, RabbitMQ and its port mapper

        process.kill()
        process.wait()

        await all_gone(children)
    with stack(tmp_path) as process:
        settings = await settings_of(tmp_path)
        async with open_object_store(settings) as store, events_queue(tmp_path) as queue:
            assert (await store.read("scan.png", max_bytes=100)).content == b"content"
            await all_arrive({*shared, *others}, queue)
        children = descendants(process.pid)

        process.send_signal(signal.SIGINT)

        assert await asyncio.to_thread(process.wait, DEADLINE_SECONDS) == 0
        await all_gone(children)


async def all_arrive(keys: set[str], queue: AbstractQueue) -> None:
    async with deadline(), queue.iterator(no_ack=True) as messages:
        async for message in messages:
            keys.discard(json.loads(message.body)["Key"].removeprefix("raw/"))
            if not keys:
                return


async def test_stack_interrupted_while_it_starts_leaves_no_process(tmp_path: Path) -> None:
    with stack(tmp_path) as process:

        async def started() -> set[int]:
            children = descendants(process.pid)
            return children if len(children) >= 3 else set()

        children = await eventually(started)
        process.send_signal(signal.SIGINT)
        await asyncio.to_thread(process.wait, DEADLINE_SECONDS)
        await all_gone(children)
    assert not (tmp_path / "env").exists()
