"""Shadow reading: a candidate model reads a share of the live images, too.

It never delays the main reading: at most ``MOST_WAITING`` jobs wait in memory, and one at a time is
done while the consumer has nothing else in flight. What has no room is dropped and counted.

See docs/decisions/0046-shadow-reading.md.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.object_store import ObjectStore
from services.common.domain.errors import ObjectNotFoundError, PredictionRefusedError
from services.common.domain.image import ImageDocument
from services.common.domain.objects import ObjectTooLargeError
from services.common.runtime.periodic import first_of, pause
from services.consumer.documents import ShadowCode, shadowed
from services.consumer.metrics import SHADOW_READINGS
from services.consumer.ocr_client import Recogniser

log = structlog.stdlib.get_logger(__name__)

MOST_WAITING = 100
IDLE_POLL_SECONDS = 0.1
_SHARES = 16**8


class _Job(NamedTuple):
    document_id: str
    key: str
    etag: str


class ShadowReader:
    """Has a candidate model read a share of the images, and keeps its readings.

    Args:
        store: The bucket of the images.
        recogniser: The candidate's OCR API.
        images: Repository of documents.
        rate: Share of images, 0 to 1; which ones follows from their SHA-256.
        max_object_bytes: Larger objects are not read.
        is_idle: Whether the consumer has nothing else to do.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        recogniser: Recogniser,
        images: ImageRepository,
        rate: float,
        max_object_bytes: int,
        is_idle: Callable[[], bool],
    ) -> None:
        self._store = store
        self._recogniser = recogniser
        self._images = images
        self._rate = rate
        self._max_object_bytes = max_object_bytes
        self._is_idle = is_idle
        self._waiting: deque[_Job] = deque()
        self._is_failing = False

    def __len__(self) -> int:
        """Return how many images wait."""
        return len(self._waiting)

    def offer(self, document: ImageDocument) -> None:
        """Queue an image that was just read, if it is of the share and there is room."""
        sha256, etag = document.sha256, document.etag
        if sha256 is None or etag is None or int(sha256[:8], 16) >= self._rate * _SHARES:
            return
        if len(self._waiting) >= MOST_WAITING:
            SHADOW_READINGS.labels("dropped").inc()
            return
        self._waiting.append(_Job(document.id, document.key, etag))

    async def run(self, stop: asyncio.Event) -> None:
        """Read queued images until ``stop`` is set, which also ends a reading."""
        while not stop.is_set():
            if self._waiting and self._is_idle():
                await first_of(self.read_next(), stop.wait())
            else:
                await pause(stop, IDLE_POLL_SECONDS)

    async def read_next(self) -> None:
        """Read the first queued image, and count the outcome."""
        job = self._waiting.popleft()
        try:
            SHADOW_READINGS.labels(await self._read(job)).inc()
            self._is_failing = False
        except Exception:
            # Whatever is wrong with the candidate must not end the consumer
            SHADOW_READINGS.labels("failed").inc()
            if not self._is_failing:
                log.exception("shadow reading failed", id=job.document_id)
            self._is_failing = True

    async def _read(self, job: _Job) -> ShadowCode:
        try:
            stored = await self._store.read(job.key, max_bytes=self._max_object_bytes)
            answer = await self._recogniser.predict(stored.content)
        except (ObjectNotFoundError, ObjectTooLargeError):
            return "obsolete"
        except PredictionRefusedError:
            return "refused"
        if stored.info.etag != job.etag:
            return "obsolete"
        prediction = answer.to_prediction(datetime.now(tz=UTC))
        return await self._images.change(
            job.document_id, lambda document: shadowed(document, job.etag, prediction)
        )
