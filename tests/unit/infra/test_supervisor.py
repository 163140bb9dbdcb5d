"""Child processes: readiness, restarts, giving up, and that none stays behind."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from infra.local import supervisor as supervisor_module
from infra.local.errors import NotReadyError, ProgramGaveUpError
from infra.local.settings import child_environment
from infra.local.supervisor import Program, Supervisor
from tests.support.waiting import DEADLINE_SECONDS, deadline, until

pytestmark = pytest.mark.slow

SLEEPS = "import time; open('ready', 'w').close(); time.sleep(600)"
IGNORES_SIGTERM = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPS}"
HAS_A_CHILD = (
    "import subprocess, sys;"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    f"open('child', 'w').write(str(child.pid)); {SLEEPS}"
)
PARENT = """
import asyncio, sys
from pathlib import Path
from tests.unit.infra.test_supervisor import SLEEPS, program
from infra.local.supervisor import Supervisor

async def main():
    async with Supervisor(print) as supervisor:
        await supervisor.start(program(Path(sys.argv[1]), SLEEPS))
        print(supervisor.pid("sleeper"), flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""
REPOSITORY = Path(__file__).parents[3]


def program(
    folder: Path,
    code: str,
    *,
    name: str = "sleeper",
    ready_timeout_seconds: float = DEADLINE_SECONDS,
    stop_timeout_seconds: float = DEADLINE_SECONDS,
    env: Mapping[str, str] | None = None,
) -> Program:
    async def is_ready() -> bool:
        return (folder / "ready").exists()

    return Program(
        name=name,
        argv=[sys.executable, "-c", code],
        env=child_environment(env),
        cwd=folder,
        log_path=folder / f"{name}.log",
        is_ready=is_ready,
        ready_timeout_seconds=ready_timeout_seconds,
        stop_timeout_seconds=stop_timeout_seconds,
    )


def runs(pid: int) -> bool:
    """Say whether a process exists and is not just waiting to be buried."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture
def events() -> list[str]:
    return []


@pytest.fixture
async def supervisor(events: list[str]) -> AsyncIterator[Supervisor]:
    async with Supervisor(events.append) as supervisor:
        yield supervisor


@pytest.fixture
def _restarts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "PAUSE_BEFORE_RESTART_SECONDS", 0.0)
    monkeypatch.setattr(supervisor_module, "DEATHS_WITHIN_SECONDS", DEADLINE_SECONDS)


async def test_children_are_stopped_in_reverse_order(tmp_path: Path) -> None:
    code = (
        "import signal, sys\n"
        "def stop(*_):\n"
        f"    open({str(tmp_path / 'order')!r}, 'a').write(sys.argv[-1] + ' '); sys.exit()\n"
        f"signal.signal(signal.SIGTERM, stop)\n{SLEEPS}"
    )
    async with Supervisor(print) as supervisor:
        for name in ("first", "second"):
            folder = tmp_path / name
            folder.mkdir()
            started = program(folder, code.replace("sys.argv[-1]", repr(name)), name=name)
            await supervisor.start(started)
    assert (tmp_path / "order").read_text() == "second first "


async def test_child_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    async with Supervisor(print) as supervisor:
        await supervisor.start(program(tmp_path, IGNORES_SIGTERM, stop_timeout_seconds=0.2))
        pid = supervisor.pid("sleeper")
    assert not runs(pid)


async def test_what_a_child_started_goes_with_it(tmp_path: Path) -> None:
    async with Supervisor(print) as supervisor:
        await supervisor.start(program(tmp_path, HAS_A_CHILD))
        grandchild = int((tmp_path / "child").read_text())
        assert runs(grandchild)
    await until(lambda: not runs(grandchild))


async def test_child_that_ends_early_is_reported_with_its_log(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    with pytest.raises(NotReadyError, match=r"exit status 3.*(?s:.)*no such luck"):
        await supervisor.start(program(tmp_path, "print('no such luck'); raise SystemExit(3)"))


async def test_child_that_is_never_ready_is_stopped(tmp_path: Path, supervisor: Supervisor) -> None:
    pids = set[int]()

    async def is_ready() -> bool:
        pids.add(supervisor.pid("sleeper"))
        return False

    started = program(tmp_path, SLEEPS, ready_timeout_seconds=0.5)
    with pytest.raises(NotReadyError, match="not ready within"):
        await supervisor.start(replace(started, is_ready=is_ready))
    assert not runs(pids.pop())


async def test_cancelled_start_leaves_no_child(tmp_path: Path, supervisor: Supervisor) -> None:
    code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    start = asyncio.create_task(supervisor.start(program(tmp_path, code)))
    pid_path = tmp_path / "pid"
    await until(lambda: pid_path.exists() and bool(pid_path.read_text()))

    start.cancel()
    await asyncio.wait([start])

    assert not runs(int(pid_path.read_text()))


async def test_cancelled_stop_kills_at_once(tmp_path: Path) -> None:
    pids = []

    async def run() -> None:
        async with Supervisor(print) as supervisor:
            await supervisor.start(program(tmp_path, IGNORES_SIGTERM, stop_timeout_seconds=600))
            pids.append(supervisor.pid("sleeper"))

    task = asyncio.create_task(run())
    await until(lambda: bool(pids))
    await asyncio.sleep(0)  # into the stop, which waits for the child

    task.cancel()
    await asyncio.wait([task], timeout=DEADLINE_SECONDS)

    assert task.cancelled()
    assert not runs(pids[0])


async def test_child_that_dies_is_restarted(
    tmp_path: Path, supervisor: Supervisor, events: list[str]
) -> None:
    await supervisor.start(program(tmp_path, SLEEPS))
    first = supervisor.pid("sleeper")

    os.kill(first, signal.SIGKILL)
    await until(lambda: len(events) == 2)

    assert events == [
        "sleeper was killed by signal 9; restarting it",
        "sleeper is ready again",
    ]
    assert runs(supervisor.pid("sleeper"))
    assert supervisor.pid("sleeper") != first


@pytest.mark.usefixtures("_restarts_at_once")
async def test_child_that_dies_too_often_is_given_up_with_its_log(
    tmp_path: Path, supervisor: Supervisor, events: list[str]
) -> None:
    ready = tmp_path / "ready"
    code = (
        "import os, time\n"
        "print('out of luck', flush=True); open('ready', 'w').close()\n"
        "while os.path.exists('ready'): time.sleep(0.01)\n"
        "raise SystemExit(4)"
    )

    async def is_ready() -> bool:
        with suppress(FileNotFoundError):
            ready.unlink()  # which ends the child
            return True
        return False

    await supervisor.start(replace(program(tmp_path, code), is_ready=is_ready))

    async with deadline():
        with pytest.raises(ProgramGaveUpError, match=r"exit status 4.*(?s:.)*out of luck") as given:
            await supervisor.wait_failed()

    assert given.value.name == "sleeper"
    assert sum("restarting" in event for event in events) == 4


async def test_stopped_child_is_not_restarted(
    tmp_path: Path, supervisor: Supervisor, events: list[str]
) -> None:
    await supervisor.start(program(tmp_path, SLEEPS))
    pid = supervisor.pid("sleeper")
    await supervisor.stop("sleeper")
    assert not runs(pid)
    assert events == []
    await supervisor.start(program(tmp_path, SLEEPS))


async def test_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PARENT,
        str(tmp_path),
        stdout=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
    )
    assert parent.stdout is not None
    async with deadline():
        child = int(await parent.stdout.readline())
    assert runs(child)

    parent.kill()
    await parent.wait()

    await until(lambda: not runs(child))


async def test_child_sees_only_its_own_environment(
    tmp_path: Path, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGO_URL", "of another user")
    code = f"import os; open('env', 'w').write(' '.join(os.environ)); {SLEEPS}"
    await supervisor.start(program(tmp_path, code, env={"OWN": "1"}))
    names = (tmp_path / "env").read_text().split()
    assert "OWN" in names
    assert "MONGO_URL" not in names


async def test_log_of_the_run_before_is_kept(tmp_path: Path, supervisor: Supervisor) -> None:
    for line in ("before", "now"):
        await supervisor.start(program(tmp_path, f"print({line!r}, flush=True); {SLEEPS}"))
        await supervisor.stop("sleeper")
        (tmp_path / "ready").unlink()
    assert (tmp_path / "sleeper.log").read_text() == "now\n"
    assert (tmp_path / "sleeper.log.1").read_text() == "before\n"
