"""Answers that pages show, asked for again as pages need them."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Generic, TypeVar

import structlog

log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")

FRESH_SECONDS = 2.0
COST_SHARE = 10
"""Pause between two questions, in times of what the last answer took."""
WAIT_SECONDS = 0.1
"""Wait of a page for fresh figures before it shows the last ones."""
FIRST_SECONDS = 1.0
"""Its wait for the first ones."""


class RefreshedAnswer(Generic[T]):
    """The last answer to a question, which is asked again when a page needs it.

    The cost is bounded: one question at a time, and a pause after each.
    """

    def __init__(self, question: Callable[[], Awaitable[T]]) -> None:
        self._question = question
        self._fresh_until = 0.0
        self._task: asyncio.Task[None] | None = None
        self.last: T | None = None

    def ask(self) -> T | None:
        """Ask if the last answer is old; return that one at once."""
        is_asking = self._task is not None and not self._task.done()
        if not is_asking and monotonic() >= self._fresh_until:
            self._task = asyncio.create_task(self._refresh())
        return self.last

    async def latest(self) -> T | None:
        """Return a fresh answer, else the last one; None if the first one takes long."""
        self.ask()
        if self._task is not None and not self._task.done():
            seconds = FIRST_SECONDS if self.last is None else WAIT_SECONDS
            await asyncio.wait({self._task}, timeout=seconds)
        return self.last

    async def aclose(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _refresh(self) -> None:
        begun = monotonic()
        try:
            self.last = await self._question()
        except Exception:
            # A foreign document must not stop the page
            log.exception("a question of a page failed")
        now = monotonic()
        self._fresh_until = now + max(FRESH_SECONDS, COST_SHARE * (now - begun))
