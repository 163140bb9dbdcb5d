"""Read known images, prefetching some."""

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Iterable
from enum import StrEnum
from itertools import islice
from typing import Protocol, TypeVar

from services.common.adapters.object_store import ObjectStore
from services.common.domain.errors import ObjectNotFoundError
from services.common.domain.objects import ObjectTooLargeError
from services.common.domain.sizes import MAX_OBJECT_BYTES

READ_AHEAD = 16
"""Images being read, or waiting to be used."""
MOST_TOGETHER = READ_AHEAD // 2
"""Images used together, in memory beside those being read."""


class Loss(StrEnum):
    """Reason why a selected image can't be read."""

    REMOVED = "removed"
    CHANGED = "changed"
    """Its key has other bytes now, whose event follows."""
    TOO_LARGE = "too_large"
    NO_IMAGE = "no_image"


class Known(Protocol):
    """A known image."""

    @property
    def key(self) -> str:
        """In the bucket of images."""

    @property
    def sha256(self) -> str:
        """Of its bytes, hexadecimal."""


K = TypeVar("K", bound=Known)


async def read_ahead(
    store: ObjectStore, images: Iterable[K]
) -> AsyncIterator[list[tuple[K, bytes | Loss]]]:
    """Yield batches of images with their bytes, in order.

    Batches save thread switches, which take longer than writing an image.
    """
    source = iter(images)
    waiting: deque[tuple[K, asyncio.Task[bytes | Loss]]] = deque()
    try:
        while True:
            for image in islice(source, READ_AHEAD - len(waiting)):
                waiting.append((image, asyncio.create_task(_read(store, image))))
            if not waiting:
                return
            await waiting[0][1]
            group: list[tuple[K, bytes | Loss]] = []
            while waiting and waiting[0][1].done() and len(group) < MOST_TOGETHER:
                image, task = waiting.popleft()
                group.append((image, task.result()))
            yield group
    finally:
        for _, task in waiting:
            task.cancel()
        await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)


async def _read(store: ObjectStore, image: Known) -> bytes | Loss:
    try:
        content = (await store.read(image.key, max_bytes=MAX_OBJECT_BYTES)).content
    except ObjectNotFoundError:
        return Loss.REMOVED
    except ObjectTooLargeError:
        return Loss.TOO_LARGE
    is_same = hashlib.sha256(content).hexdigest() == image.sha256
    return content if is_same else Loss.CHANGED
