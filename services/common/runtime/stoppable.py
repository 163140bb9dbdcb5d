"""Run work in a thread that ends early when its caller is cancelled."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TypeVar

from services.common.domain.errors import TransientError

T = TypeVar("T")


class WorkStoppedError(TransientError):
    """The work was cancelled."""

    code = "stopped"


class Stop:
    """Cancels work in another thread, by a flag or by interrupting a blocking call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._action: Callable[[], object] | None = None

    def set(self) -> None:
        """Request cancellation."""
        with self._lock:
            self._is_set = True
            if self._action is not None:
                self._action()

    def check(self) -> None:
        """Raise WorkStoppedError if cancelled; call it regularly."""
        if self._is_set:
            raise WorkStoppedError("cancelled")

    @contextmanager
    def calling(self, action: Callable[[], object]) -> Iterator[None]:
        """Call ``action`` on cancellation inside this block."""
        with self._lock:
            self.check()
            self._action = action
        try:
            yield
        finally:
            with self._lock:
                self._action = None


async def run_stoppable(executor: Executor, work: Callable[[Stop], T]) -> T:
    """Run work in a thread of ``executor``; forward cancellation to it."""
    stop = Stop()
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, work, stop)
    finally:
        stop.set()
