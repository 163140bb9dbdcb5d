"""Bounded queue of images to read, with batching and load shedding by predicted wait.

Cost is counted in pixels: those of the line scaled to 48 pixels of height, which engines read, and
a share of the file's own, for decoding. The time per pixel is a moving average, so the wait of a
new image can be predicted: beyond the limit it is refused at once, and accepted images are read in
time under any load. A batch is read together; where that fails, each image alone.

See docs/decisions/0021-load-shedding-by-measured-wait.md.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import structlog

from app.engines.base import Engine, EngineReading
from app.errors import OverloadedError
from app.images import LineImage, Pixels
from app.schemas import Prediction

GATHER_SECONDS = 0.004
"""Time to collect a batch."""
SIMILAR_WIDTHS = 1.5
"""A batch is padded to its widest image, so none is much wider than the first."""
LINE_HEIGHT = 48
LONGEST_LINE = 3200
"""Maximum width in pixels at that height, as in the engines."""
DECODING_SHARE = 1 / 100
"""A pixel is decoded some 100 times faster than it is read."""
MEMORY_SECONDS, LARGEST_WEIGHT = 0.4, 0.3
"""Window of the moving average, and largest weight of one measurement: a slow-down shows soon, an
outlier counts little."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(eq=False)
class ReadJob:
    """An image to be read.

    Args:
        content: The file.
        width: Pixels.
        height: Pixels.
        least_width: Pixels of ``line_width`` that the engine pads a narrower line to.
    """

    content: bytes
    width: int
    height: int
    least_width: int = 1
    queued_at: float = field(default_factory=time.perf_counter)
    result: Future[Prediction] = field(default_factory=Future)

    @cached_property
    def line_width(self) -> float:
        """Pixels of width once the line is ``LINE_HEIGHT`` high, padded; it is wider than high."""
        long, short = max(self.width, self.height), min(self.width, self.height)
        return min(LONGEST_LINE, max(self.least_width, LINE_HEIGHT * long / short))

    @cached_property
    def work(self) -> float:
        """Pixels to read and to decode."""
        return LINE_HEIGHT * self.line_width + DECODING_SHARE * self.width * self.height


class WorkQueue:
    """A bounded queue between the event loop and the threads that read.

    Args:
        threads: Number of consumers.
        max_waiting: Images that may wait.
        max_wait_seconds: Limit of the predicted wait.
    """

    def __init__(self, *, threads: int, max_waiting: int, max_wait_seconds: float) -> None:
        self._threads = threads
        self._max_waiting = max_waiting
        self._max_wait_seconds = max_wait_seconds
        self._batch_size = 1
        self._waiting: deque[ReadJob] = deque()
        self._running: set[ReadJob] = set()
        self._entering = 0
        self._seconds_per_pixel = 0.0
        self._is_closed = False
        self._changed = threading.Condition()
        self._taking = threading.Lock()

    @property
    def waiting(self) -> int:
        """Images that wait for a thread."""
        return len(self._waiting)

    @property
    def in_work(self) -> int:
        """Images that wait, are being read, or whose header is being read."""
        with self._changed:
            return self._in_work()

    def set_up(self, *, batch_size: int, seconds_per_pixel: float) -> None:
        """Set the model's batch size and speed before the first request.

        Args:
            batch_size: Images that it reads best together.
            seconds_per_pixel: Measured by the warm-up.
        """
        self._batch_size = batch_size
        self._seconds_per_pixel = seconds_per_pixel

    def check_room(self) -> None:
        """Raise OverloadedError if a new image would be refused."""
        with self._changed:
            self._check_room(entering=self._entering)

    @contextmanager
    def entering(self) -> Iterator[None]:
        """Reserve a place for an image while its header is read.

        Raises:
            OverloadedError: The queue is full, or the wait too long.
        """
        with self._changed:
            self._check_room(entering=self._entering)
            self._entering += 1
        try:
            yield
        finally:
            with self._changed:
                self._entering -= 1

    def put(self, job: ReadJob) -> None:
        """Add an image.

        Raises:
            OverloadedError: The queue is full, or the wait too long.
        """
        with self._changed:
            self._check_room(entering=0)  # reservations come after this one
            self._waiting.append(job)
            self._changed.notify_all()

    def drop(self, job: ReadJob) -> None:
        """Remove a cancelled image, unless it is being read already."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)

    def take(self) -> list[ReadJob]:
        """Wait for the next batch; empty once the queue is closed."""
        with self._taking, self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if self._batch_size > 1:
                    self._changed.wait_for(self._is_full_or_closed, GATHER_SECONDS)
                if self._is_closed:
                    return []
                if batch := self._pick():
                    self._running.update(batch)
                    return batch

    def finish(self, batch: list[ReadJob], *, seconds: float) -> None:
        """Record the duration of a batch."""
        measured = seconds / sum(job.work for job in batch)
        weight = min(LARGEST_WEIGHT, seconds / MEMORY_SECONDS)
        with self._changed:
            self._running.difference_update(batch)
            self._seconds_per_pixel += weight * (measured - self._seconds_per_pixel)

    def close(self) -> None:
        """End the threads and cancel waiting images."""
        with self._changed:
            self._is_closed = True
            for job in self._waiting:
                job.result.cancel()
            self._waiting.clear()
            self._changed.notify_all()

    def _check_room(self, *, entering: int) -> None:
        """Raise OverloadedError if the queue is full, or the predicted wait too long.

        An image whose header is still being read counts with the average cost of the others.
        """
        if self._in_work() >= self._threads * self._batch_size + self._max_waiting:
            raise OverloadedError("queue is full; retry later")
        if not self._waiting and not entering:  # a large image is accepted when idle
            return
        known = [job.work for job in (*self._waiting, *self._running)]
        work = sum(known) * (1 + entering / len(known)) if known else 0.0
        wait_seconds = work * self._seconds_per_pixel / self._threads
        if wait_seconds > self._max_wait_seconds:
            raise OverloadedError(f"queue is too long (wait {wait_seconds:.1f} s); retry later")

    def _in_work(self) -> int:
        return len(self._waiting) + len(self._running) + self._entering

    def _is_full_or_closed(self) -> bool:
        return len(self._waiting) >= self._batch_size or self._is_closed

    def _pick(self) -> list[ReadJob]:
        """Take the first image that is not cancelled, and later ones of similar width."""
        batch: list[ReadJob] = []
        for job in tuple(self._waiting):
            if len(batch) == self._batch_size:
                break
            if batch and not _are_similar(batch[0], job):
                continue
            self._waiting.remove(job)
            if job.result.set_running_or_notify_cancel():
                batch.append(job)
        return batch


def _are_similar(one: ReadJob, other: ReadJob) -> bool:
    narrow, wide = sorted((one.line_width, other.line_width))
    return wide <= SIMILAR_WIDTHS * narrow


def read_together(engine: Engine, images: list[Pixels]) -> list[EngineReading | Exception]:
    """Read a batch; after a failure each image alone, to isolate the faulty one."""
    if len(images) > 1:
        try:
            pairs = zip(images, engine.read_many(images), strict=True)
            return [reading for _, reading in pairs]
        except BaseException:
            log.exception("batch failed, reading its images one by one")
    return [_read_alone(engine, pixels) for pixels in images]


def _read_alone(engine: Engine, pixels: Pixels) -> EngineReading | Exception:
    try:
        return engine.read(pixels)
    except BaseException as error:  # noqa: BLE001  re-raised to the caller
        return to_exception(error)


def to_exception(error: BaseException) -> Exception:
    """Wrap exceptions that asyncio can't carry: StopIteration, and panics of Rust libraries."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(repr(error))


def prediction_of(
    engine: Engine, line: LineImage, reading: EngineReading | Exception, seconds: float
) -> Prediction | Exception:
    """Return the answer for an image."""
    if isinstance(reading, Exception):
        return reading
    try:
        return Prediction(
            text=reading.text,
            score=_bounded(reading.score),
            expected_cer=reading.expected_cer,
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
