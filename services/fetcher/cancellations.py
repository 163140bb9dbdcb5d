"""Which batches were called off, known without asking MongoDB for every item."""

import time

from services.common.index import Collection

REMEMBERED_SECONDS = 1.0
"""A batch that is called off stops within this time, in every fetcher."""


class Cancellations:
    """Remembers each answer for a second.

    Args:
        batches: The ``batches`` collection.
    """

    def __init__(self, batches: Collection) -> None:
        self._batches = batches
        self._answers: dict[str, tuple[float, bool]] = {}

    async def is_cancelled(self, batch_id: str) -> bool:
        """Return whether a batch was called off."""
        now = time.monotonic()
        if batch_id in self._answers:
            expires_at, answer = self._answers[batch_id]
            if expires_at > now:
                return answer
        batch = await self._batches.find_one({"_id": batch_id})
        answer = batch is not None and batch["cancelled_at"] is not None
        self._answers = {key: each for key, each in self._answers.items() if each[0] > now}
        self._answers[batch_id] = (now + REMEMBERED_SECONDS, answer)
        return answer
