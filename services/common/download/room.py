"""Room in memory for large bodies: many small ones at once are cheap, as many large are not."""

import asyncio


class Room:
    """Lets some tasks hold a large body each; a task that has room keeps it until it ends.

    What a task downloads it holds after the download, too, until it is done with it.

    Args:
        tasks: Most at once.
    """

    def __init__(self, tasks: int) -> None:
        self._free = asyncio.Semaphore(tasks)
        self._holders: set[asyncio.Task[object]] = set()

    async def enter(self, deadline: asyncio.Timeout) -> None:
        """Wait until the current task may hold a large body.

        Args:
            deadline: Of the download, which stands still meanwhile: no host is to blame for that.
        """
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        if task is None or task in self._holders:
            return
        ends, began = deadline.when(), loop.time()
        deadline.reschedule(None)
        await self._free.acquire()
        self._holders.add(task)
        task.add_done_callback(self._leave)
        if ends is not None:
            deadline.reschedule(ends + loop.time() - began)

    def _leave(self, task: asyncio.Task[object]) -> None:
        self._holders.discard(task)
        self._free.release()
