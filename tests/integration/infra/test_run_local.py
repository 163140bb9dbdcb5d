"""``./run_local.sh``, less its set-up of Python: the whole pipeline from one command."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from infra.local.ports import pick_free_ports
from infra.local.samples import make
from infra.local.settings import Ports, child_environment
from infra.local.stack import DATABASE
from tests.support.waiting import DEADLINE_SECONDS, eventually, until

ROOT = Path(__file__).parents[3]
RUN = (sys.executable, "-m", "infra.local.run")
BAD = {
    make.MISSING_NAME: "not_found",
    make.HTML_NAME: "not_an_image",
    make.TRUNCATED_NAME: "undecodable_image",
}
LOST = "quick-fox.png"
"""Its text is not the longest: without it the table's columns are as wide."""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Free ports, and a folder that no other process knows."""
    ports = pick_free_ports()
    given = {Ports.variable(name): str(getattr(ports, name)) for name in Ports.model_fields}
    return child_environment(
        {**given, "LOCAL_FOLDER": str(tmp_path / "data"), "COLUMNS": "180", "TERM": "dumb"}
    )


def left_behind(folder: str) -> list[str]:
    """Return the command lines of processes that live in a folder or were told of it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            told = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            if process.name != str(os.getpid()) and (
                folder.encode() in told or str((process / "cwd").readlink()).startswith(folder)
            ):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def run_to_its_end(environment: Mapping[str, str], *arguments: str) -> str:
    """Run with ``--exit``; return what it showed."""
    done = subprocess.run(  # noqa: S603  our own program
        [*RUN, "--exit", *arguments],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert left_behind(environment["LOCAL_FOLDER"]) == []
    return done.stdout


@contextmanager
def started(environment: Mapping[str, str], log_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (
        log_path.open("wb") as log,
        subprocess.Popen(  # noqa: S603  our own program
            [*RUN], env=environment, cwd=ROOT, stdout=log, stderr=log
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def assert_shows_all(shown: str, environment: Mapping[str, str]) -> None:
    """Predictions, failures with reasons, figures and addresses."""
    assert f"{len(make.SAMPLES) + 1} stored, 2 failed" in shown
    for sample in make.SAMPLES:
        assert sample.name in shown
        assert sample.text in shown
    assert f"{len(make.PAGE_LINES)} lines among them, of 1 page:" in shown
    assert "Monsieur le Maire," in shown
    for name, code in BAD.items():
        assert any(name in line and code in line for line in shown.splitlines())
    assert "mean score, last 5 minutes" in shown
    assert "no prediction" not in shown
    assert f":{environment['LOCAL_MINIO_CONSOLE_PORT']}" in shown
    log = Path(environment["LOCAL_FOLDER"], "logs", "reconciler.log").read_text()
    assert "pass finished" in log


async def test_second_run_stores_nothing_twice_and_names_lost_images(
    environment: dict[str, str], tmp_path: Path
) -> None:
    first = await asyncio.to_thread(run_to_its_end, environment)
    assert_shows_all(first, environment)

    log = tmp_path / "log"
    with started({**environment, "LOCAL_INDEX_STALLED_SECONDS": "2"}, log) as process:

        async def consumer() -> int | None:
            found = process_of("services.consumer.main", environment["LOCAL_FOLDER"])
            return found if found and "fetcher and consumer: " in log.read_text() else None

        await eventually(lambda: has_lost(LOST, environment))
        frozen = await eventually(consumer)  # or it would index the lost one again
        os.kill(frozen, signal.SIGSTOP)
        try:
            await until(lambda: "Running until Ctrl-C." in log.read_text())
        finally:
            os.kill(frozen, signal.SIGCONT)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, DEADLINE_SECONDS) == 1
    second = log.read_text()
    assert f"{len(make.SAMPLES) + 1} stored, 2 failed" in second
    assert ("no batch was added" in first, "no batch was added" in second) == (False, True)
    there = [line for line in table_of_images(first) if f" {LOST} " not in line]
    assert [line for line in table_of_images(second) if f" {LOST} " not in line] == there
    assert any(LOST in line and "no document" in line for line in second.splitlines())
    assert left_behind(environment["LOCAL_FOLDER"]) == []


async def has_lost(name: str, environment: Mapping[str, str]) -> bool:
    """Remove the document of an image, once MongoDB answers; return whether it is gone."""
    url = f"mongodb://127.0.0.1:{environment['LOCAL_MONGO_PORT']}"
    with MongoClient[dict[str, object]](url, serverSelectionTimeoutMS=5_000) as client:
        where = {"sources.url": {"$regex": f"/{name}$"}}
        try:
            found = await asyncio.to_thread(client[DATABASE].images.delete_one, where)
        except PyMongoError:
            return False
    return found.deleted_count == 1


def table_of_images(shown: str) -> list[str]:
    names = [sample.name for sample in make.SAMPLES]
    return [line for line in shown.splitlines() if any(f" {name} " in line for name in names)]


@pytest.mark.parametrize("begun", ["rabbitmq", "provisioner"])
async def test_interrupt_during_the_start_leaves_no_process(
    environment: dict[str, str], tmp_path: Path, begun: str
) -> None:
    folder = environment["LOCAL_FOLDER"]
    with started(environment, tmp_path / "log") as process:
        await until((Path(folder) / "logs" / f"{begun}.log").exists)
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_SECONDS) == 130
    assert left_behind(folder) == []


def process_of(module: str, folder: str) -> int | None:
    """Return the process that runs a module and was told of a folder."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            runs = module.encode() in (process / "cmdline").read_bytes().split(b"\0")
            if runs and folder in str((process / "fd" / "1").readlink()):
                return int(process.name)
    return None


def test_missing_list_is_named_before_anything_starts(environment: dict[str, str]) -> None:
    done = subprocess.run(  # noqa: S603  our own program
        [*RUN, "nowhere.txt", "--exit"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert "list nowhere.txt not found" in done.stdout
    assert not Path(environment["LOCAL_FOLDER"]).exists()
