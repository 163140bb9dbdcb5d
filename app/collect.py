"""Keep the images that the API is sent: written to the bucket; the pipeline does the rest.

The answer never waits for it: images wait in a bounded buffer, and what does not fit is counted.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import structlog
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from app.metrics import CollectMetrics
from services.common.errors import ObjectStoreUnavailableError
from services.common.images import ImageFormat, sniff
from services.common.metadata import Provenance, to_metadata

log = structlog.stdlib.get_logger(__name__)

ATTEMPTS = 6
LONGEST_PAUSE_SECONDS = 30.0


class Bucket(Protocol):
    """Where images are written: the object store, whose libraries take long to import."""

    async def head(self, key: str) -> object | None:
        """Return what is known of an object, or None where there is none."""

    async def write(
        self, key: str, content: bytes, *, content_type: str, metadata: dict[str, str]
    ) -> object:
        """Write an object.

        Raises:
            ObjectStoreUnavailableError: It may be possible later.
        """


OpenStore = Callable[[], AbstractAsyncContextManager[Bucket]]


@dataclass(frozen=True)
class Seen:
    """An image of a request."""

    content: bytes
    provenance: Provenance

    @property
    def is_anonymous(self) -> bool:
        """Whether nothing is known of it but when it came."""
        return self.provenance.source_url is None and self.provenance.annotation is None


class Collector:
    """Writes images of requests to a bucket, in the background.

    Args:
        open_store: Opens the bucket.
        metrics: Counts what is written, and what is not.
        rate: Share of the images to keep.
        max_bytes: Most that wait to be written.
        max_images: Most that wait to be written.
        drain_seconds: Limit to write what waits when stopping.
    """

    def __init__(
        self,
        open_store: OpenStore,
        metrics: CollectMetrics,
        *,
        rate: float,
        max_bytes: int,
        max_images: int,
        drain_seconds: float,
    ) -> None:
        self._open_store = open_store
        self._metrics = metrics
        self._rate = rate
        self._room_bytes = max_bytes
        self._waiting: asyncio.Queue[Seen] = asyncio.Queue(max_images)
        self._drain_seconds = drain_seconds

    def offer(self, content: bytes, provenance: Provenance) -> None:
        """Keep an image if its turn comes up; never waits, never raises."""
        if random.random() >= self._rate:  # noqa: S311  which images are kept is no secret
            return
        if len(content) > self._room_bytes or self._waiting.full():
            self._drop("buffer_full")
            return
        self._room_bytes -= len(content)
        self._waiting.put_nowait(Seen(content, provenance))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write for the length of an ``async with`` block, and then what still waits."""
        async with self._open_store() as store:
            writing = asyncio.create_task(self._write_all(store))
            try:
                yield
            finally:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._drain_seconds):
                        await self._waiting.join()
                writing.cancel()
                await asyncio.wait({writing})
                while not self._waiting.empty():
                    self._waiting.get_nowait()
                    self._drop("stopped")

    async def _write_all(self, store: Bucket) -> None:
        while True:
            seen = await self._waiting.get()
            try:
                await self._write(store, seen)
            except ObjectStoreUnavailableError as error:
                self._drop("store_unavailable")
                log.warning("image not collected", code=error.code, error=str(error))
            except asyncio.CancelledError:
                self._drop("stopped")
                raise
            except Exception:
                self._drop("internal_error")
                log.exception("image not collected")
            finally:
                self._room_bytes += len(seen.content)
                self._waiting.task_done()

    async def _write(self, store: Bucket, seen: Seen) -> None:
        image_format, digest = await asyncio.to_thread(_identify, seen.content)
        if image_format is None:
            self._drop("not_an_image")
            return
        key = f"api/{digest}.{image_format.extension}"
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(ObjectStoreUnavailableError),
            wait=wait_random_exponential(max=LONGEST_PAUSE_SECONDS),
            stop=stop_after_attempt(ATTEMPTS),
            reraise=True,
        ):
            with attempt:
                # Written again, it would be read again, and lose what is known of its source
                if seen.is_anonymous and await store.head(key) is not None:
                    return
                await store.write(
                    key,
                    seen.content,
                    content_type=image_format.content_type,
                    metadata=to_metadata(seen.provenance),
                )
        self._metrics.collected.inc()

    def _drop(self, reason: str) -> None:
        self._metrics.dropped.labels(reason=reason).inc()


def _identify(content: bytes) -> tuple[ImageFormat | None, str]:
    return sniff(content), sha256(content).hexdigest()
