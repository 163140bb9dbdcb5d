"""Limits of searches for pages: their time, and one at a time.

See docs/decisions/0033-keyset-pages-read-ranges.md.

A page answers within ``FIRST_SECONDS``, with what it has found until then; if that is not all, it
asks for itself again, with ``wait``.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

FIRST_SECONDS = 0.1
SEARCH_SECONDS = 5.0
"""The page then offers to continue the search."""


def search_seconds(*, wait: bool) -> float:
    """Return the time limit of a search.

    Args:
        wait: Whether the page was shown already, and waits for the rest.
    """
    return SEARCH_SECONDS if wait else FIRST_SECONDS


class SearchLock:
    """Serialises searches, which would try the same images."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def acquire(self, seconds: float | None) -> AsyncIterator[bool]:
        """Wait for the lock; yield whether it was acquired.

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
