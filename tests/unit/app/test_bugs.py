"""A bug while an image is read counts against the error budget; a refused image does not."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from typing_extensions import override

from app.engines.base import EngineReading
from app.errors import INTERNAL_ERROR, UndecodableImageError, UnsupportedMediaTypeError
from app.images import Pixels
from app.metrics import OcrMetrics
from app.predictor import Predictor
from app.queueing import WorkQueue
from tests.support.images import line_image
from tests.support.running_ocr_api import FakeEngine
from tests.support.waiting import deadline, until


class BrokenEngine:
    """Reads the blank pictures that it is warmed up with, and no other."""

    name = "broken"
    model_version = "1"
    best_batch = 1
    least_width = 1

    def read(self, pixels: Pixels) -> EngineReading:
        if pixels.min() < 255:
            raise ZeroDivisionError(f"a bug at {pixels.shape}")
        return EngineReading("", 0.0)

    def read_many(self, images: Sequence[Pixels]) -> list[EngineReading]:
        return [self.read(pixels) for pixels in images]


class MuteEngine(BrokenEngine):
    """Answers what is no reading."""

    @override
    def read(self, _: Pixels) -> EngineReading:
        nothing: Any = None
        return nothing  # type: ignore[no-any-return]


class ExhaustedEngine(BrokenEngine):
    """Lets an iterator's end escape."""

    @override
    def read(self, pixels: Pixels) -> EngineReading:
        return super().read(pixels) if pixels.min() == 255 else next(iter(()))


class Panic(BaseException):
    """As libraries in Rust raise it: no Exception."""


class PanickingEngine(BrokenEngine):
    """Calls such a library, for several images at once."""

    best_batch = 2

    @override
    def read(self, pixels: Pixels) -> EngineReading:
        if pixels.min() < 255:
            raise Panic
        return super().read(pixels)


async def test_bug_is_counted_and_a_refusal_is_not_a_bug() -> None:
    registry = CollectorRegistry()
    metrics = OcrMetrics(registry, low_score_threshold=0.5)
    queue = WorkQueue(threads=1, max_waiting=1, max_wait_seconds=600)
    predictor = Predictor(BrokenEngine, str, queue, metrics, threads=1, max_image_pixels=1_000_000)

    def bugs() -> float | None:
        return registry.get_sample_value("ocr_rejections_total", {"code": INTERNAL_ERROR})

    async with predictor.running(wait_for_model=True):
        assert bugs() == 0
        with pytest.raises((UndecodableImageError, UnsupportedMediaTypeError)):
            await predictor.predict(b"no image")
        assert bugs() == 0
        for count in (1, 2):  # the thread lives on
            with pytest.raises(ZeroDivisionError):
                await predictor.predict(line_image("a"))
            assert bugs() == count


async def test_fallback_is_served_until_the_model_can_be_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.predictor.CHECK_SECONDS", 0.01)
    copied = list[FakeEngine]()
    predictor = Predictor(
        lambda: copied[0],
        str,
        WorkQueue(threads=1, max_waiting=1, max_wait_seconds=600),
        OcrMetrics(CollectorRegistry(), low_score_threshold=0.5),
        threads=1,
        max_image_pixels=1_000_000,
        fall_back=lambda: FakeEngine(model_version="earlier"),
    )

    async with predictor.running(wait_for_model=True):
        await predictor.check()
        assert predictor.model["model_version"] == "earlier"
        assert "IndexError" in predictor.model["problem"]
        copied.append(FakeEngine(model_version="new"))
        await until(lambda: predictor.model == {"engine": "fake", "model_version": "new"})


@pytest.mark.parametrize(
    ("engine", "error"),
    [
        (MuteEngine, AttributeError),
        (ExhaustedEngine, RuntimeError),
        (PanickingEngine, RuntimeError),
    ],
)
async def test_an_engine_that_answers_no_reading_ends_no_thread(
    engine: type[BrokenEngine], error: type[Exception]
) -> None:
    metrics = OcrMetrics(CollectorRegistry(), low_score_threshold=0.5)
    queue = WorkQueue(threads=1, max_waiting=1, max_wait_seconds=600)
    predictor = Predictor(engine, str, queue, metrics, threads=1, max_image_pixels=1_000_000)

    async with predictor.running(wait_for_model=True), deadline():
        for _ in range(2):
            tries = [predictor.predict(line_image("a")) for _ in range(engine.best_batch)]
            for outcome in await asyncio.gather(*tries, return_exceptions=True):
                assert isinstance(outcome, error)
        assert queue.in_work == 0
