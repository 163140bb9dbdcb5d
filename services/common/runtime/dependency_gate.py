"""Pause consumption while a dependency does not answer."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from services.common.domain.errors import UnavailableError
from services.common.runtime.periodic import doubled, pause, retry_for_ever

log = structlog.stdlib.get_logger(__name__)

LARGEST_PAUSE_SECONDS = 15.0
LARGEST_RETRY_AFTER_SECONDS = 60.0
"""Limit of the pause that a server may ask for."""
CHECK_TIMEOUT_SECONDS = 10.0

Check = Callable[[], Awaitable[None]]
"""Health check of a server: raises while it does not answer."""


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
