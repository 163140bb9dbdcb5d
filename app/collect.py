"""Collect the images of API requests: write them to the bucket, where the pipeline takes over.

Responses never wait for it: images are buffered, within bounds, while the bucket does not answer.
Images are dropped, and counted, only when the buffer is full or the shutdown times out.

See docs/decisions/0030-collected-api-requests.md.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
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
from services.common.domain.errors import ObjectStoreUnavailableError
from services.common.domain.image_formats import ImageFormat, sniff
from services.common.domain.keys import collected_key
from services.common.domain.provenance import Provenance, to_metadata

log = structlog.stdlib.get_logger(__name__)

ATTEMPTS = 6
"""Consecutive attempts for one image, before others are tried: this one may be what is refused."""
LONGEST_PAUSE_SECONDS = 10.0
LONGEST_DRAIN_SECONDS = 5.0
"""Time limit of the writes that are at work at shutdown."""


class Known(Protocol):
    """Known facts of an object."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """User metadata."""


class Bucket(Protocol):
    """The object store as used here; its libraries are slow to import."""

    async def head(self, key: str) -> Known | None:
        """Return an object's metadata, or None."""

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


class Collector:
    """Writes images of requests to a bucket, in the background.

    Args:
        open_store: Opens the bucket.
        metrics: Counts what is written, and what is not.
        rate: Share of the images to keep.
        max_bytes: Limit of images waiting to be written or being written.
        max_images: Limit of the same, in images.
        drain_seconds: Graceful-shutdown timeout.
        longest_pause_seconds: Limit of the exponential backoff.
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
        longest_pause_seconds: float = LONGEST_PAUSE_SECONDS,
    ) -> None:
        self._open_store = open_store
        self._metrics = metrics
        self._rate = rate
        self._room_bytes = max_bytes
        self._room_images = max_images
        self._waiting: asyncio.Queue[Seen] = asyncio.Queue()
        self._drain_seconds = drain_seconds
        self._pause = wait_random_exponential(max=longest_pause_seconds)

    def offer(self, content: bytes, provenance: Provenance) -> None:
        """Enqueue an image if it is sampled; never wait, never raise."""
        if random.random() >= self._rate:  # noqa: S311  which images are kept is no secret
            return
        if len(content) > self._room_bytes or not self._room_images:
            self._drop("buffer_full")
            return
        self._take_room(len(content))
        self._waiting.put_nowait(Seen(content, provenance))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write in the background during an ``async with`` block; drain the buffer at its end."""
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
                    self._release(self._waiting.get_nowait(), dropped="stopped")

    async def _write_all(self, store: Bucket) -> None:
        while True:
            seen = await self._waiting.get()
            try:
                await self._write(store, seen)
            except ObjectStoreUnavailableError as error:
                self._waiting.put_nowait(seen)  # its buffer space is still reserved
                log.warning(
                    "bucket unavailable, images buffered", code=error.code, error=str(error)
                )
            except asyncio.CancelledError:
                self._release(seen, dropped="stopped")
                raise
            except Exception:
                self._release(seen, dropped="internal_error")
                log.exception("image collection failed")
            else:
                self._release(seen)
            finally:
                self._waiting.task_done()

    async def _write(self, store: Bucket, seen: Seen) -> None:
        image_format, digest = await asyncio.to_thread(_identify, seen.content)
        if image_format is None:
            self._drop("not_an_image")
            return
        key = collected_key(digest, image_format.extension)
        metadata = to_metadata(seen.provenance)
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(ObjectStoreUnavailableError),
            wait=self._pause,
            stop=stop_after_attempt(ATTEMPTS),
            reraise=True,
        ):
            with attempt:
                # Writing it again would trigger another reading and overwrite its provenance
                known = await store.head(key)
                if known is not None and _says_no_more(metadata, known.metadata):
                    return
                await store.write(
                    key,
                    seen.content,
                    content_type=image_format.content_type,
                    metadata=metadata,
                )
        self._metrics.collected.inc()

    def _take_room(self, size: int) -> None:
        self._room_bytes -= size
        self._room_images -= 1
        self._metrics.waiting.inc()

    def _release(self, seen: Seen, *, dropped: str | None = None) -> None:
        """Release an image's buffer space: it was written, or dropped for ``reason``."""
        self._room_bytes += len(seen.content)
        self._room_images += 1
        self._metrics.waiting.dec()
        if dropped is not None:
            self._drop(dropped)

    def _drop(self, reason: str) -> None:
        self._metrics.dropped.labels(reason=reason).inc()


def _says_no_more(metadata: Mapping[str, str], known: Mapping[str, str]) -> bool:
    """Whether an object has these metadata, except for the time."""
    return all(known.get(name) == metadata[name] for name in metadata.keys() - {"fetched-at"})


def _identify(content: bytes) -> tuple[ImageFormat | None, str]:
    return sniff(content), sha256(content).hexdigest()
