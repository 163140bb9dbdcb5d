"""Run an engine of the OCR API in this process, to evaluate a model before it is deployed."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from app.engines.base import Engine
from app.engines.loading import load_engine
from app.errors import RefusedError
from app.images import decode
from app.settings import EngineName
from services.cli.errors import CommandError, ExitStatus
from services.common.adapters.object_store import ObjectStore
from services.common.domain.image import ImageDocument
from services.datasets.evaluation import ModelReading
from services.datasets.objects import Loss, read_ahead


@dataclass(frozen=True)
class _Image:
    key: str
    sha256: str


class EngineReader:
    """Reads images from the store sequentially."""

    def __init__(self, engine: Engine, store: ObjectStore, *, max_pixels: int) -> None:
        self._engine = engine
        self._store = store
        self._max_pixels = max_pixels

    @property
    def name(self) -> str:
        """Displayed name."""
        return f"{self._engine.name} {self._engine.model_version}"

    async def read(self, documents: Sequence[ImageDocument]) -> list[ModelReading | None]:
        """Return the reading of each image; None if the image is missing or unreadable."""
        images = [_Image(document.key, str(document.sha256)) for document in documents]
        return [
            None if isinstance(content, Loss) else await asyncio.to_thread(self._read, content)
            async for group in read_ahead(self._store, images)
            for _, content in group
        ]

    def _read(self, content: bytes) -> ModelReading | None:
        try:
            image = decode(content, max_pixels=self._max_pixels)
        except RefusedError:
            return None
        reading = self._engine.read(image.pixels)
        score = 0.0 if math.isnan(reading.score) else min(max(reading.score, 0.0), 1.0)
        return ModelReading(reading.text, score, self._engine.model_version)


async def load(name: EngineName) -> Engine:
    """Load an engine; takes seconds.

    Raises:
        CommandError: Its libraries or its weights are missing.
    """
    try:
        return await asyncio.to_thread(load_engine, name)
    except Exception as error:
        raise CommandError(
            f"{name} can't be loaded: {type(error).__name__}: {error}", status=ExitStatus.REFUSED
        ) from error
