"""Turns of searches."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Serialises searches, which would try the same images."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def turn(self, seconds: float | None) -> AsyncIterator[bool]:
        """Wait for a turn; yield whether it has come.

        Args:
            seconds: Time limit of the wait; None: there is none.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._lock.acquire()
        except TimeoutError:
            yield False
            return
        try:
            yield True
        finally:
            self._lock.release()
