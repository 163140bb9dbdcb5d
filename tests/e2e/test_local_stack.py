"""``python -m infra.local.stack up``: what it leaves behind, and what it keeps."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pydantic import HttpUrl, SecretStr

from infra.local.settings import child_environment
from services.common.adapters.object_store import open_object_store
from services.common.runtime.settings import S3Settings
from services.provisioner.bucket import set_up_bucket
from tests.support.notifying import USUAL_ARN
from tests.support.waiting import eventually

pytestmark = pytest.mark.e2e

START_SECONDS = 120.0


@contextmanager
def stack(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the servers on free ports, with their data in ``folder``."""
    (folder / "env").unlink(missing_ok=True)
    with subprocess.Popen(  # noqa: S603  our own command
        [
            *(sys.executable, "-m", "infra.local.stack", "up", "--free-ports"),
            *("--folder", str(folder / "servers"), "--env-file", str(folder / "env")),
        ],
        env=child_environment(),
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


async def settings_of(folder: Path) -> S3Settings:
    """Wait until the servers of ``folder`` are up; return their store."""

    async def content() -> str | None:
        return (folder / "env").read_text() if (folder / "env").exists() else None

    lines = (await eventually(content, seconds=START_SECONDS)).splitlines()
    values = dict(line.removeprefix("export ").split("=", 1) for line in lines)
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
    async def gone() -> bool:
        return not any(map(exists, pids))

    await eventually(gone)


async def test_killed_stack_leaves_no_process_and_loses_no_object(tmp_path: Path) -> None:
    with stack(tmp_path) as process:
        settings = await settings_of(tmp_path)
        async with open_object_store(settings) as store:
            await set_up_bucket(store, notification_arn=USUAL_ARN)
            await store.write("kept", b"content", content_type="image/png", metadata={})
        children = descendants(process.pid)
        assert len(children) >= 4  # MinIO, MongoDB, RabbitMQ and its port mapper

        process.kill()
        process.wait()

        await all_gone(children)
    with stack(tmp_path) as process:
        settings = await settings_of(tmp_path)
        async with open_object_store(settings) as store:
            assert (await store.read("kept", max_bytes=100)).content == b"content"
        children = descendants(process.pid)

        process.send_signal(signal.SIGINT)

        assert await asyncio.to_thread(process.wait, 60) == 0
        await all_gone(children)


async def test_stack_interrupted_while_it_starts_leaves_no_process(tmp_path: Path) -> None:
    with stack(tmp_path) as process:

        async def started() -> set[int]:
            children = descendants(process.pid)
            return children if len(children) >= 3 else set()

        children = await eventually(started, seconds=START_SECONDS)
        process.send_signal(signal.SIGINT)
        await asyncio.to_thread(process.wait, 60)
        await all_gone(children)
    assert not (tmp_path / "env").exists()
