"""The bytes of images that are known already, some being read while one is used."""

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Iterable
from enum import StrEnum
from itertools import islice
from typing import Protocol, TypeVar

from services.common.adapters.object_store import ObjectStore, ObjectTooLargeError
from services.common.domain.errors import ObjectNotFoundError

READ_AHEAD = 16
"""Images read at once, or waiting to be used."""
MOST_TOGETHER = READ_AHEAD // 2
"""Images that are used at a time, held in memory beside those, which are being read meanwhile."""
MAX_OBJECT_BYTES = 32 * 1024 * 1024


class Loss(StrEnum):
    """Why an image that was asked for can't be had."""

    REMOVED = "removed"
    CHANGED = "changed"
    """Other bytes have its key now; their own event follows."""
    TOO_LARGE = "too_large"
    NO_IMAGE = "no_image"


class Known(Protocol):
    """An image whose bytes were seen before."""

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
    """Yield images with their bytes, in their order, those together that are at hand.

    A few at a time cost one change of threads, which takes longer than laying an image out.

    Raises:
        ObjectStoreUnavailableError: The server does not answer, or answers with an error.
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
