"""Run work in a thread that ends early when nobody waits for it any more."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TypeVar

from services.common.domain.errors import TransientError

T = TypeVar("T")


class WorkStoppedError(TransientError):
    """Whoever waited for the work has gone."""

    code = "stopped"


class Stop:
    """Asks work in another thread to end: by a flag, or by what ends a blocking call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._action: Callable[[], object] | None = None

    def set(self) -> None:
        """Ask the work to end."""
        with self._lock:
            self._is_set = True
            if self._action is not None:
                self._action()

    def check(self) -> None:
        """Raise WorkStoppedError once the work is to end; to be called now and then."""
        if self._is_set:
            raise WorkStoppedError("nobody waits for it any more")

    @contextmanager
    def calling(self, action: Callable[[], object]) -> Iterator[None]:
        """Have ``action`` called where the work is to end inside this block."""
        with self._lock:
            self.check()
            self._action = action
        try:
            yield
        finally:
            with self._lock:
                self._action = None


async def run_stoppable(executor: Executor, work: Callable[[Stop], T]) -> T:
    """Run work in a thread of ``executor``; ask it to end where this is cancelled."""
    stop = Stop()
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, work, stop)
    finally:
        stop.set()
