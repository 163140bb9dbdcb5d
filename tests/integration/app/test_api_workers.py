"""Several processes of the OCR API on one port: one set of metrics, replaced when they die."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession, FormData
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from infra.local.ports import pick_free_ports
from tests.support.images import line_image
from tests.support.waiting import deadline, eventually

ROOT = Path(__file__).parents[3]


class Workers:
    """A parent and its processes, asked from outside."""

    def __init__(self, process: Process, url: str) -> None:
        self.process = process
        self.url = url

    @property
    def children(self) -> set[int]:
        """Its processes that serve; multiprocessing's resource tracker is none."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        pids = {int(pid) for task in tasks for pid in task.read_text().split()}
        return {pid for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()}

    async def predict(self) -> int:
        """Send an image over a connection of its own, so that any process may take it."""
        form = FormData()
        form.add_field("file", line_image("a"), filename="a")
        async with ClientSession() as session, session.post(self.url + "/predict", data=form) as it:
            return it.status

    async def is_ready(self) -> bool:
        try:
            async with ClientSession() as session, session.get(self.url + "/readyz") as response:
                return response.status == 200
        except ClientError:
            return False

    async def metrics(self) -> dict[str, float]:
        """Return the sum of each metric's series."""
        sums: dict[str, float] = {}
        for sample in await self.samples():
            sums[sample.name] = sums.get(sample.name, 0) + sample.value
        return sums

    async def samples(self) -> list[Sample]:
        """Return all series."""
        async with ClientSession() as session, session.get(self.url + "/metrics") as response:
            text = await response.text()
        return [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[Workers]:
    async with running_workers(tmp_path) as workers:
        yield workers


@asynccontextmanager
async def running_workers(temporary: Path) -> AsyncIterator[Workers]:
    port = pick_free_ports().ocr_api_port
    settings = {"OCR_WORKERS": "2", "OCR_THREADS": "1", "OCR_PORT": str(port)}
    settings |= {"OCR_MAX_WAIT_SECONDS": "600"}  # no image is refused where cores are busy
    settings |= {"TMPDIR": str(temporary)}  # a parent that is killed leaves its metrics there
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.main", cwd=ROOT, env={**os.environ, **settings}
    )
    workers = Workers(process, f"http://127.0.0.1:{port}")
    try:
        await eventually(workers.is_ready)
        yield workers
    finally:
        children = workers.children if process.returncode is None else set()
        if process.returncode is None:
            process.kill()
            await process.wait()
        await eventually(lambda: _are_gone(children))


async def _are_gone(pids: set[int]) -> bool:
    return not any(map(_exists, pids))


def _exists(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").exists()


async def test_metrics_are_those_of_all_processes_and_survive_one(workers: Workers) -> None:
    async def both_there() -> bool:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(workers.predict())
        return len(workers.children) == 2

    await eventually(both_there)
    before = (await workers.metrics())["ocr_predictions_total"]
    assert before >= 8
    assert [await workers.predict() for _ in range(10)] == [200] * 10
    # whichever process answers, it knows of all
    assert {(await workers.metrics())["ocr_predictions_total"] for _ in range(6)} == {before + 10}
    await _assert_that_memory_and_time_are_shown(workers)

    victim, survivor = sorted(workers.children)
    os.kill(victim, signal.SIGKILL)

    async def replaced() -> bool:
        children = workers.children
        return len(children) == 2 and victim not in children and survivor in children

    await eventually(replaced)
    assert [await workers.predict() for _ in range(4)] == [200] * 4
    after = await workers.metrics()
    assert after["ocr_predictions_total"] == before + 14
    assert after["ocr_in_flight_requests"] == 0
    assert after["ocr_queue_depth"] == 0


async def _assert_that_memory_and_time_are_shown(workers: Workers) -> None:
    shown = {(each.name, each.labels.get("pid")): each.value for each in await workers.samples()}
    for pid in workers.children:
        resident = shown["process_resident_memory_bytes", str(pid)]
        assert 0.5 < resident / _resident_bytes(pid) < 2
        assert shown["process_cpu_seconds_total", str(pid)] > 0
    assert ("process_resident_memory_bytes", str(workers.process.pid)) in shown
    assert ("process_resident_memory_bytes", None) not in shown  # summed, it would count twice


def _resident_bytes(pid: int) -> int:
    (line,) = (
        each
        for each in Path(f"/proc/{pid}/status").read_text().splitlines()
        if each.startswith("VmRSS:")
    )
    return int(line.split()[1]) * 1024


async def test_every_process_ends_on_sigterm_and_answers_before(workers: Workers) -> None:
    children = workers.children
    assert len(children) == 2
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(workers.predict()) for _ in range(6)]

        async def in_flight() -> bool:
            return (await workers.metrics())["ocr_in_flight_requests"] > 0 or asked[0].done()

        await eventually(in_flight)
        workers.process.terminate()
    assert [task.result() for task in asked] == [200] * 6

    async with deadline():
        assert await workers.process.wait() == 0
    await eventually(lambda: _are_gone(children))


async def test_processes_end_when_their_parent_was_killed(workers: Workers) -> None:
    children = workers.children
    workers.process.kill()
    await workers.process.wait()

    await eventually(lambda: _are_gone(children))
    assert not await workers.is_ready()


async def test_wrong_settings_end_the_parent_instead_of_restarts() -> None:
    settings = {"OCR_WORKERS": "2", "OCR_PORT": "0", "OCR_COLLECT": "1", "S3_BUCKET": "x"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.main", cwd=ROOT, env={**os.environ, **settings},
        stderr=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with deadline():
            assert await process.wait() != 0
    finally:
        if process.returncode is None:
            process.kill()
