"""Exponential backoff."""

import asyncio
from typing import Any

from tenacity import AsyncRetrying, wait_random_exponential

from services.common.runtime.periodic import pause

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
