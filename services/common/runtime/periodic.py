"""Periodic work and pauses that end at shutdown, also while a dependency does not answer."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from math import inf
from typing import Any, TypeVar

import structlog
from tenacity import AsyncRetrying, wait_random_exponential

from services.common.domain.errors import UnavailableError

POLL_SECONDS = 0.2
"""Pause between two questions to a server that does not tell of changes."""

T = TypeVar("T")

log = structlog.stdlib.get_logger(__name__)

LARGEST_PAUSE_SECONDS = 15.0
LARGEST_RETRY_AFTER_SECONDS = 60.0
"""Limit of the pause that a server may ask for."""
CHECK_TIMEOUT_SECONDS = 10.0

Check = Callable[[], Awaitable[None]]
"""Health check of a server: raises while it does not answer."""


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait for a time, or until ``stop`` is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


async def first_of(*waits: Awaitable[Any]) -> None:
    """Wait until the first of several is done, and cancel the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def polled(
    ask: Callable[[], Awaitable[T]], is_done: Callable[[T], bool], *, deadline: float
) -> T:
    """Return the first answer that is as wanted, or the last one when the time is over.

    Args:
        ask: Called again and again, at least once.
        is_done: Whether an answer is as wanted.
        deadline: By the event loop's clock.
    """
    while True:
        answer = await ask()
        if is_done(answer) or asyncio.get_running_loop().time() >= deadline:
            return answer
        await asyncio.sleep(POLL_SECONDS)


async def periodic(
    work: Callable[[], Awaitable[bool | None]],
    stop: asyncio.Event,
    *,
    seconds: float,
    retry_seconds: float = inf,
) -> None:
    """Repeat work until ``stop`` is set, with a pause after each run.

    Args:
        work: Returns False on failure.
        stop: Ends the pause, too; a running work is finished.
        seconds: Length of the pause.
        retry_seconds: Its length after a failure.
    """
    while not stop.is_set():
        has_failed = await work() is False
        await pause(stop, min(seconds, retry_seconds) if has_failed else seconds)


MOST_DOUBLINGS = 20
"""Cap of the exponent: larger powers overflow a float."""


def doubled(first: float, times: int, *, longest: float) -> float:
    """Return the exponential wait in seconds, at most ``longest``."""
    return min(longest, first * 2.0 ** min(times, MOST_DOUBLINGS))


def retry_for_ever(
    stop: asyncio.Event, *, first: float, longest: float, **policy: Any
) -> AsyncRetrying:
    """Return unlimited retries with jittered waits; ``stop`` ends the waits.

    Args:
        stop: Ends each wait.
        first: Longest wait before the first retry, in seconds.
        longest: Longest wait before any retry.
        policy: Further arguments of tenacity.
    """
    return AsyncRetrying(
        wait=wait_random_exponential(multiplier=first, max=longest),
        sleep=lambda seconds: pause(stop, seconds),
        **policy,
    )


class DependencyGate:
    """Waits for an unavailable dependency, with exponential backoff.

    Args:
        checks: By name of the dependency.
    """

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._pauses_in_a_row = 0

    def reset(self) -> None:
        """Reset the backoff after successful work."""
        self._pauses_in_a_row = 0

    async def wait_until_healthy(self, cause: UnavailableError, stop: asyncio.Event) -> None:
        """Wait until the dependency is healthy or ``stop`` is set."""
        log.warning("paused", dependency=cause.dependency, code=cause.code, error=str(cause))
        self._pauses_in_a_row += 1
        await pause(stop, self._first_wait(cause))
        check = self._checks.get(cause.dependency)
        async for attempt in retry_for_ever(stop, first=0.5, longest=LARGEST_PAUSE_SECONDS):
            with attempt:
                if check is not None and not stop.is_set():
                    # A suspended server accepts connections and never answers
                    async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                        await check()
        log.info("resumed", dependency=cause.dependency)

    def _first_wait(self, cause: UnavailableError) -> float:
        """Return the pause in seconds, at least the server's ``Retry-After``."""
        growing = doubled(0.1, self._pauses_in_a_row, longest=LARGEST_PAUSE_SECONDS)
        asked = min(LARGEST_RETRY_AFTER_SECONDS, cause.retry_after_seconds or 0.0)
        return max(growing, asked)
