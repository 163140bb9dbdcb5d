"""Load and warm up the model, and read queued images in threads."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import structlog

from app.engines.base import Engine
from app.errors import INTERNAL_ERROR, NotReadyError
from app.images import LineImage, decode, measure
from app.metrics import OcrMetrics
from app.queueing import ReadJob, WorkQueue, prediction_of, read_together, to_exception
from app.schemas import Prediction
from services.common.domain.errors import PipelineError
from services.common.runtime.periodic import doubled

log = structlog.stdlib.get_logger(__name__)

LARGE_PIXELS = 4_000_000
"""Pixels: larger images take up to 280 MB to decode, so one at a time."""
CHECK_SECONDS = 5.0
"""Between two looks at which model is to be served."""
LONGEST_RETRY_SECONDS = 300.0
"""Between two attempts to load a model that failed to load."""
WARM_UP_WIDTHS = (64, 320, 960, 320)
"""Pixels, at a height of 48; the last one is timed."""


class Predictor:
    """Reads images in threads of its own, so that the event loop stays free.

    Args:
        load: Loads the model; may be slow and raise any exception.
        wanted: Identifies the model that is to be served; may raise any exception.
        queue: Where images wait.
        metrics: Where predictions are counted.
        threads: Images, or batches of them, read concurrently.
        max_image_pixels: Largest image.
        fall_back: Loads what is served while no model is loaded and ``load`` fails, if anything.
    """

    def __init__(
        self,
        load: Callable[[], Engine],
        wanted: Callable[[], str],
        queue: WorkQueue,
        metrics: OcrMetrics,
        *,
        threads: int,
        max_image_pixels: int,
        fall_back: Callable[[], Engine | None] = lambda: None,
    ) -> None:
        self._load = load
        self._wanted = wanted
        self._fall_back = fall_back
        self._queue = queue
        self._metrics = metrics
        self._max_image_pixels = max_image_pixels
        self._engine: Engine | None = None
        self._problem = ""
        self._first_try = asyncio.Event()
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
        return self._problem or f"the model is {'loaded' if self._engine else 'loading'}"

    @property
    def model(self) -> dict[str, str]:
        """The engine and version that read now, and why they are not those that should.

        Nothing while none is loaded.
        """
        if (engine := self._engine) is None:
            return {}
        served = {"engine": engine.name, "model_version": engine.model_version}
        return served | ({"problem": self._problem} if self._problem else {})

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
        following = asyncio.create_task(self._follow())
        try:
            if wait_for_model:
                await self._first_try.wait()
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
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
        job = ReadJob(content, width, height, self._ready_engine().least_width)
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
            raise NotReadyError(self.state)
        return self._engine

    async def _follow(self) -> None:
        """Load the model that is to be served, now and whenever it is another.

        One that failed to load is tried again, as its files may still be being copied.
        """
        loaded: str | None = None
        failed: str | None = None
        failures, retry_at = 0, 0.0
        while True:
            wanted = await asyncio.to_thread(self._wanted_or_why_not)
            if wanted == loaded:
                failed, self._problem = None, ""
            elif wanted != failed or time.monotonic() >= retry_at:
                failures = failures + 1 if wanted == failed else 0
                is_loaded = await self._load_and_start()
                loaded, failed = (wanted, None) if is_loaded else (loaded, wanted)
                wait = doubled(CHECK_SECONDS, failures, longest=LONGEST_RETRY_SECONDS)
                retry_at = time.monotonic() + wait
                self._first_try.set()
            await asyncio.sleep(CHECK_SECONDS)

    def _wanted_or_why_not(self) -> str:
        try:
            return self._wanted()
        except Exception as error:  # noqa: BLE001  loading fails with the same, and says so once
            return repr(error)

    async def _load_and_start(self) -> bool:
        """Return whether the model is loaded; if not, serve the one before, or the fallback."""
        try:
            await self._start(await asyncio.to_thread(self._load))
        except Exception as error:
            log.exception("model failed to load", still_served=self.model)
            self._problem = f"the model failed to load: {type(error).__name__}: {error}"
        else:
            self._problem = ""
            return True
        if self._engine is None:
            try:
                if engine := await asyncio.to_thread(self._fall_back):
                    await self._start(engine)
            except Exception:
                log.exception("fallback model failed to load")
        return False

    async def _start(self, engine: Engine) -> None:
        started, before = time.perf_counter(), self._engine
        seconds_per_pixel = await asyncio.to_thread(_warm_up, engine)
        self._queue.set_up(batch_size=engine.best_batch, seconds_per_pixel=seconds_per_pixel)
        self._metrics.announce(engine=engine.name, model_version=engine.model_version)
        self._engine = engine
        if before is None:
            for thread in self._threads:
                thread.start()
        elif before.model_version != engine.model_version:
            self._metrics.retire(engine=before.name, model_version=before.model_version)
        seconds = round(time.perf_counter() - started, 2)
        log.info("ready", engine=engine.name, model_version=engine.model_version, seconds=seconds)

    def _join(self) -> None:
        self._headers.shutdown(cancel_futures=True)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _read_all(self) -> None:
        while batch := self._queue.take():
            engine = self._ready_engine()  # of this batch: the next one may be another's
            started = time.perf_counter()
            self._metrics.count_batch([started - job.queued_at for job in batch])
            self._metrics.show_waiting(self._queue.waiting)
            outcomes: list[Prediction | Exception]
            try:
                outcomes = self._read(engine, batch)
            except BaseException as error:  # noqa: BLE001  re-raised to the callers
                outcomes = [to_exception(error)] * len(batch)
            finally:
                self._queue.finish(batch, seconds=time.perf_counter() - started)
            for job, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    job.result.set_exception(outcome)
                else:
                    job.result.set_result(outcome)

    def _read(self, engine: Engine, batch: list[ReadJob]) -> list[Prediction | Exception]:
        decoded = [self._decode(job) for job in batch]
        images = [each for each in decoded if not isinstance(each, Exception)]
        started = time.perf_counter()
        readings = iter(read_together(engine, [image.line.pixels for image in images]))
        share = (time.perf_counter() - started) / max(1, len(images))
        return [
            each
            if isinstance(each, Exception)
            else prediction_of(engine, each.line, next(readings), each.seconds + share)
            for each in decoded
        ]

    def _decode(self, job: ReadJob) -> "_Decoded | Exception":
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
    return seconds / ReadJob(b"", WARM_UP_WIDTHS[-1], 48, engine.least_width).work
