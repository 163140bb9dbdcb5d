"""Periodic work and pauses that end at shutdown."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait for a time, or until ``stop`` is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


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
