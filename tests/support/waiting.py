"""Wait for a condition with a deadline, instead of sleeping."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_SECONDS = 180.0
"""Longer than anything takes on a busy machine: only what hangs reaches it."""


def deadline() -> asyncio.Timeout:
    """Fail a block that hangs."""
    return asyncio.timeout(DEADLINE_SECONDS)


async def eventually(
    condition: Callable[[], Awaitable[T | None]], *, seconds: float = DEADLINE_SECONDS
) -> T:
    """Return the first true answer of ``condition``; fail after ``seconds``."""
    async with asyncio.timeout(seconds):
        while True:
            if answer := await condition():
                return answer
            await asyncio.sleep(0.02)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""

    async def answer() -> bool:
        return condition()

    await eventually(answer)
