"""Exponential backoff."""

import asyncio
from typing import Any

from tenacity import AsyncRetrying, wait_random_exponential

from services.common.runtime.periodic import pause

MOST_DOUBLINGS = 20
"""By then any wait is the longest; a power of hundreds would be too large for a float."""


def doubled(first: float, times: int, *, longest: float) -> float:
    """Return a wait that was doubled some times, in seconds, and is no longer than the longest."""
    return min(longest, first * 2.0 ** min(times, MOST_DOUBLINGS))


def retry_for_ever(
    stop: asyncio.Event, *, first: float, longest: float, **policy: Any
) -> AsyncRetrying:
    """Return retries without a last one, after random waits; once ``stop`` is set, without waits.

    Args:
        stop: Ends each wait.
        first: Longest wait before the first retry, in seconds.
        longest: And before any.
        policy: What else tenacity takes.
    """
    return AsyncRetrying(
        wait=wait_random_exponential(multiplier=first, max=longest),
        sleep=lambda seconds: pause(stop, seconds),
        **policy,
    )
