"""Load and warm up the model, and read queued images in threads."""

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import structlog

from app.engines.base import Engine, Reading
from app.errors import INTERNAL_ERROR, NotReadyError
from app.images import LineImage, Pixels, decode, measure
from app.metrics import OcrMetrics
from app.queueing import Job, WorkQueue
from app.schemas import Prediction
from services.common.domain.errors import PipelineError

log = structlog.stdlib.get_logger(__name__)

LARGE_PIXELS = 4_000_000
"""Pixels: larger images take up to 280 MB to decode, so one at a time."""
WARM_UP_WIDTHS = (64, 320, 960, 320)
"""Pixels, at a height of 48; the last one is timed."""


class Predictor:
    """Reads images in threads of its own, so that the event loop stays free.

    Args:
        load: Loads the model; may be slow and raise any exception.
        queue: Where images wait.
        metrics: Where predictions are counted.
        threads: Images, or batches of them, read concurrently.
        max_image_pixels: Largest image.
    """

    def __init__(
        self,
        load: Callable[[], Engine],
        queue: WorkQueue,
        metrics: OcrMetrics,
        *,
        threads: int,
        max_image_pixels: int,
    ) -> None:
        self._load = load
        self._queue = queue
        self._metrics = metrics
        self._max_image_pixels = max_image_pixels
        self._engine: Engine | None = None
        self._state = "the model is loading"
        self._large = threading.Lock()
        self._threads = [
            threading.Thread(target=self._read_all, name=f"ocr-{number}")
            for number in range(threads)
        ]
        # A hostile header is slow to parse, but must not delay reading
        self._headers = ThreadPoolExecutor(1, thread_name_prefix="header")

    @property
    def state(self) -> str:
        """Status of the model: loading, loaded, or why it failed to load."""
        return self._state

    @property
    def places(self) -> int:
        """Images that can be read concurrently."""
        return len(self._threads) * self._ready_engine().best_batch

    @asynccontextmanager
    async def running(self, *, wait_for_model: bool = False) -> AsyncIterator[None]:
        """Read images during an ``async with`` block.

        Args:
            wait_for_model: Enter the block only when the model is loaded or failed to load.
        """
        loading = asyncio.create_task(self._load_and_start())
        try:
            if wait_for_model:
                await loading
            yield
        finally:
            await loading
            self._queue.close()
            await asyncio.to_thread(self._join)

    async def check(self) -> None:
        """Raise NotReadyError with the reason unless the model is loaded."""
        self._ready_engine()

    def check_room(self) -> None:
        """Raise if an image would be refused, before its body is received.

        Raises:
            OverloadedError: The queue is full, or the wait too long.
            NotReadyError: The model is not loaded.
        """
        self._ready_engine()
        self._queue.check_room()

    async def predict(
        self, content: bytes, *, when_measured: Callable[[], None] = lambda: None
    ) -> Prediction:
        """Read the text of an image; a queued read can be cancelled.

        Args:
            content: The file.
            when_measured: Called once its header is valid.

        Raises:
            RefusedError: It can never be read.
            OverloadedError: The queue is full, or the wait too long.
            NotReadyError: The model is not loaded.
        """
        self._ready_engine()
        try:
            prediction = await self._predict(content, when_measured)
        except PipelineError:
            raise
        except Exception:
            self._metrics.count_rejection(INTERNAL_ERROR)
            raise
        self._metrics.count_prediction(prediction)
        return prediction

    async def _predict(self, content: bytes, when_measured: Callable[[], None]) -> Prediction:
        with self._queue.entering():
            width, height = await asyncio.get_running_loop().run_in_executor(
                self._headers, lambda: measure(content, max_pixels=self._max_image_pixels)
            )
        when_measured()
        job = Job(content, width, height, self._ready_engine().least_width)
        self._queue.put(job)
        self._metrics.show_waiting(self._queue.waiting)
        try:
            return await asyncio.wrap_future(job.result)
        except asyncio.CancelledError:
            self._queue.drop(job)
            self._metrics.show_waiting(self._queue.waiting)
            raise

    def _ready_engine(self) -> Engine:
        if self._engine is None:
            raise NotReadyError(self._state)
        return self._engine

    async def _load_and_start(self) -> None:
        started = time.perf_counter()
        try:
            engine = await asyncio.to_thread(self._load)
            seconds_per_pixel = await asyncio.to_thread(_warm_up, engine)
        except Exception as error:
            self._state = f"the model failed to load: {type(error).__name__}: {error}"
            log.exception("model failed to load")
            return
        self._queue.set_up(batch_size=engine.best_batch, seconds_per_pixel=seconds_per_pixel)
        self._metrics.announce(engine=engine.name, model_version=engine.model_version)
        self._engine, self._state = engine, "the model is loaded"
        for thread in self._threads:
            thread.start()
        seconds = round(time.perf_counter() - started, 2)
        log.info("ready", engine=engine.name, model_version=engine.model_version, seconds=seconds)

    def _join(self) -> None:
        self._headers.shutdown(cancel_futures=True)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _read_all(self) -> None:
        engine = self._ready_engine()
        while batch := self._queue.take():
            started = time.perf_counter()
            self._metrics.count_batch([started - job.queued_at for job in batch])
            self._metrics.show_waiting(self._queue.waiting)
            outcomes: list[Prediction | Exception]
            try:
                outcomes = self._read(engine, batch)
            except BaseException as error:  # noqa: BLE001  re-raised to the callers
                outcomes = [_to_exception(error)] * len(batch)
            finally:
                self._queue.finish(batch, seconds=time.perf_counter() - started)
            for job, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    job.result.set_exception(outcome)
                else:
                    job.result.set_result(outcome)

    def _read(self, engine: Engine, batch: list[Job]) -> list[Prediction | Exception]:
        decoded = [self._decode(job) for job in batch]
        images = [each for each in decoded if not isinstance(each, Exception)]
        started = time.perf_counter()
        readings = iter(_read_together(engine, [image.line.pixels for image in images]))
        share = (time.perf_counter() - started) / max(1, len(images))
        return [
            each
            if isinstance(each, Exception)
            else _outcome(engine, each.line, next(readings), each.seconds + share)
            for each in decoded
        ]

    def _decode(self, job: Job) -> "_Decoded | Exception":
        started = time.perf_counter()
        is_large = job.width * job.height > LARGE_PIXELS
        try:
            with self._large if is_large else nullcontext():
                line = decode(job.content, max_pixels=self._max_image_pixels)
        except Exception as error:  # noqa: BLE001  re-raised to the caller
            return error
        return _Decoded(line, time.perf_counter() - started)


@dataclass(frozen=True)
class _Decoded:
    line: LineImage
    seconds: float
    """Time of decoding."""


def _warm_up(engine: Engine) -> float:
    """Read blank lines; return the seconds per pixel."""
    seconds = 0.0
    for width in WARM_UP_WIDTHS:
        started = time.perf_counter()
        engine.read(np.full((48, width, 3), 255, np.uint8))
        seconds = time.perf_counter() - started
    return seconds / Job(b"", WARM_UP_WIDTHS[-1], 48, engine.least_width).work


def _read_together(engine: Engine, images: list[Pixels]) -> list[Reading | Exception]:
    if len(images) > 1:
        try:
            pairs = zip(images, engine.read_many(images), strict=True)
            return [reading for _, reading in pairs]
        except BaseException:
            log.exception("batch failed, reading its images one by one")
    return [_read_alone(engine, pixels) for pixels in images]


def _read_alone(engine: Engine, pixels: Pixels) -> Reading | Exception:
    try:
        return engine.read(pixels)
    except BaseException as error:  # noqa: BLE001  re-raised to the caller
        return _to_exception(error)


def _to_exception(error: BaseException) -> Exception:
    """Wrap exceptions that asyncio can't carry: StopIteration, and panics of Rust libraries."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(repr(error))


def _outcome(
    engine: Engine, line: LineImage, reading: Reading | Exception, seconds: float
) -> Prediction | Exception:
    if isinstance(reading, Exception):
        return reading
    try:
        return Prediction(
            text=reading.text,
            score=_bounded(reading.score),
            engine=engine.name,
            model_version=engine.model_version,
            width=line.width,
            height=line.height,
            duration_ms=round(seconds * 1000, 3),
        )
    except ValueError as error:  # a faulty engine
        return error


def _bounded(score: float) -> float:
    """Clamp a score to [0, 1]; NaN counts as 0."""
    return 0.0 if math.isnan(score) else min(max(score, 0.0), 1.0)
