"""The model and its worker threads: who may wait, what is computed, whether it is ready."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
import structlog

from app.engines.base import Engine
from app.errors import NotReadyError, OverloadedError
from app.images import decode
from app.metrics import INTERNAL_ERROR, OcrMetrics
from app.schemas import Prediction
from services.common.errors import PipelineError

log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")


class Predictor:
    """Reads images in worker threads, so that the event loop stays free.

    Args:
        load: Loads the model; may take long, and may raise anything.
        metrics: Where predictions are counted.
        threads: Images read at once.
        max_waiting: Requests that may wait for a thread.
        max_image_pixels: Largest image.
    """

    def __init__(
        self,
        load: Callable[[], Engine],
        metrics: OcrMetrics,
        *,
        threads: int,
        max_waiting: int,
        max_image_pixels: int,
    ) -> None:
        self._load = load
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="ocr")
        self._capacity = threads + max_waiting
        self._in_flight = 0
        self._max_image_pixels = max_image_pixels
        self._engine: Engine | None = None
        self._state = "the model is loading"

    @property
    def state(self) -> str:
        """Whether the model is loading, loaded, or failed to load and why."""
        return self._state

    @property
    def in_flight(self) -> int:
        """Requests in work or waiting."""
        return self._in_flight

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drop what waits, and wait for what is being computed."""
        self._pool.shutdown(cancel_futures=True)

    async def load(self) -> None:
        """Load the model and warm it up; a failure is logged and shown by ``check``."""
        started = time.perf_counter()
        try:
            engine = await self._in_thread(self._load)
            await self._in_thread(lambda: engine.read(np.full((48, 320, 3), 255, np.uint8)))
        except Exception as error:
            self._state = f"the model failed to load: {type(error).__name__}: {error}"
            log.exception("model failed to load")
            return
        self._metrics.announce(engine=engine.name, model_version=engine.model_version)
        self._engine, self._state = engine, "the model is loaded"
        seconds = round(time.perf_counter() - started, 2)
        log.info("ready", engine=engine.name, model_version=engine.model_version, seconds=seconds)

    async def check(self) -> None:
        """Raise NotReadyError with the reason unless images can be read."""
        self._ready_engine()

    @contextmanager
    def admission(self) -> Iterator[None]:
        """Hold one of the places in work or in the queue.

        Raises:
            OverloadedError: All are taken.
            NotReadyError: No image can be read yet.
        """
        self._ready_engine()
        if self._in_flight >= self._capacity:
            raise OverloadedError("as many images wait as may wait; try again shortly")
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    async def predict(self, content: bytes) -> Prediction:
        """Read the text of an image.

        Args:
            content: The file.

        Raises:
            RefusedError: It can never be read.
            NotReadyError: No image can be read yet.
        """
        engine = self._ready_engine()
        try:
            prediction = await self._in_thread(lambda: self._compute(engine, content))
        except PipelineError:
            raise
        except Exception:
            self._metrics.count_rejection(INTERNAL_ERROR)
            raise
        self._metrics.count_prediction(prediction)
        return prediction

    def _ready_engine(self) -> Engine:
        if self._engine is None:
            raise NotReadyError(self._state)
        return self._engine

    def _compute(self, engine: Engine, content: bytes) -> Prediction:
        started = time.perf_counter()
        image = decode(content, max_pixels=self._max_image_pixels)
        reading = engine.read(image.pixels)
        return Prediction(
            text=reading.text,
            score=_bounded(reading.score),
            engine=engine.name,
            model_version=engine.model_version,
            width=image.width,
            height=image.height,
            duration_ms=round((time.perf_counter() - started) * 1000, 3),
        )

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _bounded(score: float) -> float:
    """Return a score in [0, 1]; what is not a number is no confidence at all."""
    return 0.0 if math.isnan(score) else min(max(score, 0.0), 1.0)
