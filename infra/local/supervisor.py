"""Supervisor of child processes: starts, watches, restarts and always stops them."""

import asyncio
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from infra.local.errors import NotReadyError, ProgramGaveUpError

DEATHS_TO_GIVE_UP = 5
DEATHS_WITHIN_SECONDS = 60.0
PROBE_EVERY_SECONDS = 0.1
PAUSE_BEFORE_RESTART_SECONDS = 0.5
KILLED_WITHIN_SECONDS = 5.0

OnEvent = Callable[[str], None]
"""Called with one line per event of a child process."""


@dataclass(frozen=True)
class Program:
    """A program to run as a child process."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    """Its whole environment: nothing is inherited."""
    cwd: Path
    log_path: Path
    """File of its output; that of the previous run is kept as ``.1``."""
    is_ready: Callable[[], Awaitable[bool]]
    """Readiness probe, repeated after the start until it succeeds."""
    ready_timeout_seconds: float = 60.0
    stop_timeout_seconds: float = 15.0
    """Timeout before the whole process group is killed."""


class Supervisor:
    """Starts programs, restarts those that die, and stops all at the end.

    Each child leads its own process group, so Ctrl-C in a terminal reaches only this process, and
    the kernel kills the child whenever this process dies.
    """

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._children: dict[str, _Child] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._failure: asyncio.Future[ProgramGaveUpError] | None = None

    async def __aenter__(self) -> Self:
        self._failure = asyncio.get_running_loop().create_future()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            for name in reversed(list(self._children)):
                await self.stop(name)
        finally:
            for child in self._children.values():
                child.kill()

    async def start(self, program: Program) -> None:
        """Start a program and wait until it is ready.

        Raises:
            NotReadyError: It ended, or was not ready in time; it is stopped.
        """
        if program.name in self._children:
            raise ValueError(f"{program.name} is running already")
        child = _Child(program)
        self._children[program.name] = child
        try:
            _keep_last_log(program.log_path)
            child.spawn()
            await child.wait_ready()
        except BaseException:
            # Also after a cancellation, no child may be left behind
            child.kill()
            del self._children[program.name]
            raise
        watcher = asyncio.create_task(self._watch(child), name=f"watch {program.name}")
        self._watchers[program.name] = watcher

    async def stop(self, name: str) -> None:
        """Stop a program gracefully, if it is running."""
        if watcher := self._watchers.pop(name, None):
            watcher.cancel()
            await asyncio.wait([watcher])
        if child := self._children.get(name):
            await child.stop()
            self._children.pop(name, None)

    def pid(self, name: str) -> int:
        """Return the current process id of a started program."""
        return self._children[name].pid

    async def wait_failed(self) -> NoReturn:
        """Wait until a program is given up.

        Raises:
            ProgramGaveUpError: It died too often; with the end of its log.
        """
        if self._failure is None:
            raise RuntimeError("the supervisor is not entered")
        raise await asyncio.shield(self._failure)

    async def _watch(self, child: "_Child") -> None:
        """Restart a child each time it dies, until it dies too often."""
        name = child.program.name
        deaths: deque[float] = deque(maxlen=DEATHS_TO_GIVE_UP)
        what = await child.wait_ended()
        while True:
            child.kill()  # remaining processes of its group
            deaths.append(time.monotonic())
            if len(deaths) == DEATHS_TO_GIVE_UP and deaths[-1] - deaths[0] < DEATHS_WITHIN_SECONDS:
                self._give_up(child, what)
                return
            self._on_event(f"{name} {what}; restarting it")
            await asyncio.sleep(PAUSE_BEFORE_RESTART_SECONDS)
            child.spawn()
            try:
                await child.wait_ready()
            except NotReadyError as error:
                what = f"{error.what} after its restart"
                continue
            self._on_event(f"{name} is ready again")
            what = await child.wait_ended()

    def _give_up(self, child: "_Child", what: str) -> None:
        often = f"the {DEATHS_TO_GIVE_UP}th time within {DEATHS_WITHIN_SECONDS:.0f} s"
        program = child.program
        error = ProgramGaveUpError(program.name, f"{what}, {often}: given up", program.log_path)
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(error)


@dataclass
class _Child:
    program: Program
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self.program.name} was never started")
        return self._process

    def spawn(self) -> None:
        """Start the process, safe against cancellation."""
        program = self.program
        with program.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *program.argv],
                env=dict(program.env),
                cwd=program.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def wait_ready(self) -> None:
        program = self.program
        ended = asyncio.create_task(self.wait_ended())
        try:
            async with asyncio.timeout(program.ready_timeout_seconds):
                while not ended.done():
                    if await program.is_ready() and not ended.done():
                        return
                    await asyncio.wait([ended], timeout=PROBE_EVERY_SECONDS)
        except TimeoutError:
            what = f"was not ready within {program.ready_timeout_seconds:.0f} s"
            raise NotReadyError(program.name, what, program.log_path) from None
        finally:
            ended.cancel()
            await asyncio.wait([ended])
        raise NotReadyError(program.name, ended.result(), program.log_path)

    async def wait_ended(self) -> str:
        """Wait for the end of the process; return its description."""
        process = self._running
        if process.poll() is None:
            loop = asyncio.get_running_loop()
            ended = asyncio.Event()
            descriptor = os.pidfd_open(process.pid)
            try:
                loop.add_reader(descriptor, ended.set)
                await ended.wait()
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
            process.wait()
        status = process.returncode
        return (
            f"was killed by signal {-status}" if status < 0 else f"ended with exit status {status}"
        )

    async def stop(self) -> None:
        """Terminate the process, and kill its group after the timeout."""
        process = self._running
        try:
            if process.poll() is None:
                process.terminate()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.program.stop_timeout_seconds):
                        await self.wait_ended()
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill the rest of the group."""
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(KILLED_WITHIN_SECONDS)


def _keep_last_log(log_path: Path) -> None:
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        log_path.replace(log_path.with_name(f"{log_path.name}.1"))
