"""Batch concurrent single-item requests into one bulk request (DataLoader pattern)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from services.common.domain.errors import PermanentError

T = TypeVar("T")
R = TypeVar("R")

MOST_TOGETHER = 200


class RequestBatcher(Generic[T, R]):
    """Batches the requests that arrive while the previous batch runs.

    A single request starts at once. If a batch is refused because of one member, each is done
    alone, so ``do`` must be idempotent.

    Args:
        do: Returns one result per request, in order.
        most: Largest batch.
        every_seconds: Minimum time between the starts of two batches, for larger batches.
    """

    def __init__(
        self,
        do: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        most: int = MOST_TOGETHER,
        every_seconds: float = 0.0,
    ) -> None:
        self._do = do
        self._most = most
        self._every_seconds = every_seconds
        self._next_at = 0.0
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, request: T) -> R:
        """Return the result of one request, or raise what ``do`` raised."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._pace()
                group, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                await self._answer(group)
        finally:
            self._running = None
            for _, answer in self._waiting:
                answer.cancel()

    async def _pace(self) -> None:
        loop = asyncio.get_running_loop()
        if len(self._waiting) < self._most and (wait := self._next_at - loop.time()) > 0:
            await asyncio.sleep(wait)
        self._next_at = loop.time() + self._every_seconds

    async def _answer(self, group: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            answers = await self._do([request for request, _ in group])
        except PermanentError as error:
            if len(group) == 1:
                _fail(group, error)
                return
            for each in group:
                await self._answer([each])
        except Exception as error:  # noqa: BLE001 - re-raised to each caller
            _fail(group, error)
        else:
            for (_, future), answer in zip(group, answers, strict=True):
                if not future.done():
                    future.set_result(answer)


def _fail(group: Sequence[tuple[T, asyncio.Future[R]]], error: Exception) -> None:
    for _, future in group:
        if not future.done():
            future.set_exception(error)
