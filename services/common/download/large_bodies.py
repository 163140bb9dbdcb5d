"""Limit of large bodies in memory."""

import asyncio


class LargeBodyLimiter:
    """Limits the tasks that hold a large body; a task keeps its slot until it ends."""

    def __init__(self, tasks: int) -> None:
        self._free = asyncio.Semaphore(tasks)
        self._holders: set[asyncio.Task[object]] = set()

    async def acquire(self, deadline: asyncio.Timeout) -> None:
        """Wait for a slot of the current task.

        Args:
            deadline: Of the download; suspended meanwhile, as the wait is not the host's fault.
        """
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        if task is None or task in self._holders:
            return
        ends, began = deadline.when(), loop.time()
        deadline.reschedule(None)
        await self._free.acquire()
        self._holders.add(task)
        task.add_done_callback(self._release)
        if ends is not None:
            deadline.reschedule(ends + loop.time() - began)

    def _release(self, task: asyncio.Task[object]) -> None:
        self._holders.discard(task)
        self._free.release()
