"""Thumbnails for the page of a report."""

import asyncio
from base64 import b64encode
from collections.abc import Iterable
from io import BytesIO

from services.common.adapters.object_store import open_object_store
from services.common.domain.errors import PermanentError
from services.common.domain.normal_form import (
    MAX_PIXELS,
    check_cost,
    opened_image,
    to_normal_form,
)
from services.common.domain.sizes import MAX_OBJECT_BYTES
from services.common.runtime.settings import S3Settings

SIZE = (560, 56)
"""Pixels: twice the size in which they are shown."""
QUALITY = 70


async def read_thumbnails(images: Iterable[str]) -> dict[str, str]:
    """Return small images as addresses with their content; without those that can't be read.

    Args:
        images: ``bucket/key`` each.
    """
    made: dict[str, str] = {}
    async with open_object_store(S3Settings()) as store:
        for image in images:
            key = image.partition("/")[2]
            try:
                stored = await store.read(key, max_bytes=MAX_OBJECT_BYTES)
                small = await asyncio.to_thread(to_thumbnail, stored.content)
            except PermanentError:
                continue
            made[image] = f"data:image/jpeg;base64,{b64encode(small).decode()}"
    return made


def to_thumbnail(content: bytes) -> bytes:
    """Return a small JPEG of an image.

    Raises:
        NoImageError: It is not an image.
        TooManyPixelsError: It is too large.
    """
    file = BytesIO()
    with opened_image(content, MAX_PIXELS) as image:
        check_cost(image, content, MAX_PIXELS)
        small = to_normal_form(image)
        small.thumbnail(SIZE)
        small.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
