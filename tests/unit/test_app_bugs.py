"""A bug while an image is read counts against the error budget; a refused image does not."""

import pytest
from prometheus_client import CollectorRegistry

from app.engines.base import Reading
from app.errors import UndecodableImageError, UnsupportedMediaTypeError
from app.images import Pixels
from app.metrics import INTERNAL_ERROR, OcrMetrics
from app.predictor import Predictor
from tests.support.images import line_image


class BrokenEngine:
    """Reads the picture that it is warmed up with, and no other."""

    name = "broken"
    model_version = "1"

    def __init__(self) -> None:
        self._is_warm = False

    def read(self, pixels: Pixels) -> Reading:
        if self._is_warm:
            raise ZeroDivisionError(f"a bug at {pixels.shape}")
        self._is_warm = True
        return Reading("", 0.0)


async def test_bug_is_counted_and_a_refusal_is_not_a_bug() -> None:
    registry = CollectorRegistry()
    metrics = OcrMetrics(registry, low_score_threshold=0.5)

    def bugs() -> float | None:
        return registry.get_sample_value("ocr_rejections_total", {"code": INTERNAL_ERROR})

    with Predictor(
        BrokenEngine, metrics, threads=1, max_waiting=1, max_image_pixels=1_000_000
    ) as predictor:
        await predictor.load()
        assert bugs() == 0
        with pytest.raises((UndecodableImageError, UnsupportedMediaTypeError)):
            await predictor.predict(b"no image")
        assert bugs() == 0
        with pytest.raises(ZeroDivisionError):
            await predictor.predict(line_image("a"))
        assert bugs() == 1
