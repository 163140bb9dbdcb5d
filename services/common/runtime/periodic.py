"""Periodic work, pauses and exponential backoff that end at shutdown."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from typing import Any, TypeVar

from tenacity import AsyncRetrying, wait_random_exponential

POLL_SECONDS = 0.2
"""Pause between two questions to a server that does not tell of changes."""

T = TypeVar("T")


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
