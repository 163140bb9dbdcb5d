"""The quality page's count goes on, whatever documents it meets."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Collection, Document
from services.review.quality import Figures, Quality
from tests.support.review import known
from tests.support.waiting import eventually


class Images:
    """Has a document out of shape the first time it is asked, and none afterwards."""

    def __init__(self) -> None:
        self.asked = 0

    async def find(self, *_: Any, **__: Any) -> AsyncIterator[Document]:
        self.asked += 1
        if self.asked == 1:
            yield known("line", 0.0005, sources=["no source"])


async def test_document_out_of_shape_does_not_end_the_page() -> None:
    quality = Quality(ImageRepository(cast("Collection", Images())), refresh_seconds=0)
    stop = asyncio.Event()
    counting = asyncio.create_task(quality.run(stop))

    async def figures() -> Figures | None:
        return quality.figures or (Figures() if counting.done() else None)

    await eventually(figures)
    stop.set()
    await counting
    assert quality.figures is not None
