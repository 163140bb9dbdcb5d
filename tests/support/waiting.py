"""Wait for a condition with a deadline, instead of sleeping."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(condition: Callable[[], Awaitable[T | None]], *, seconds: float = 90.0) -> T:
    """Return the first true answer of ``condition``; fail after ``seconds``."""
    async with asyncio.timeout(seconds):
        while True:
            if answer := await condition():
                return answer
            await asyncio.sleep(0.02)
