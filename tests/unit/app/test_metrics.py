"""Metrics of predictions."""

import asyncio
import sys
from typing import Any, get_args

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from app.errors import ERRORS, INTERNAL_ERROR
from app.metrics import OcrMetrics
from app.schemas import Prediction
from services.common.download.errors import DownloadCode

MODEL: dict[str, Any] = {"engine": "fake", "model_version": "1"}


def prediction(score: float) -> Prediction:
    return Prediction(text="a", score=score, width=1, height=1, duration_ms=30, **MODEL)


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.123])
def test_a_bucket_ends_exactly_at_the_threshold(threshold: float) -> None:
    registry = CollectorRegistry()
    metrics = OcrMetrics(registry, low_score_threshold=threshold)

    for score in (threshold - 0.001, threshold, threshold + 0.001):
        metrics.count_prediction(prediction(score))

    edge = {**MODEL, "le": str(threshold)}
    assert registry.get_sample_value("ocr_prediction_score_bucket", edge) == 2
    assert registry.get_sample_value("ocr_prediction_score_count", MODEL) == 3
    assert registry.get_sample_value("ocr_predictions_total", MODEL) == 3
    assert registry.get_sample_value("ocr_low_score_predictions_total", MODEL) == 1


def test_duration_is_in_seconds() -> None:
    registry = CollectorRegistry()

    OcrMetrics(registry, low_score_threshold=0.5).count_prediction(prediction(0.9))

    seconds = registry.get_sample_value("ocr_prediction_duration_seconds_sum", MODEL)
    assert seconds == pytest.approx(0.03)


def test_series_exist_before_the_first_event() -> None:
    registry = CollectorRegistry()
    metrics = OcrMetrics(registry, low_score_threshold=0.5)

    metrics.announce(**MODEL)

    for name in ("ocr_predictions_total", "ocr_low_score_predictions_total"):
        assert registry.get_sample_value(name, MODEL) == 0
    assert registry.get_sample_value("ocr_prediction_score_count", MODEL) == 0
    for error in ERRORS:
        assert registry.get_sample_value("ocr_rejections_total", {"code": error.code}) == 0


@pytest.mark.slow
async def test_api_shows_no_metrics_of_other_services() -> None:
    """Its downloads would else count as the fetcher's, in sums over all services."""
    code = (
        "import app.main; from prometheus_client import REGISTRY, generate_latest;"
        "app.main.build(app.main.configure(), REGISTRY);"
        "print(generate_latest(REGISTRY).decode())"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    shown = (await process.communicate())[0].decode()

    names = {family.name for family in text_string_to_metric_families(shown)}
    assert "ocr_download_bytes" in names
    assert not [name for name in names if name.startswith(("fetcher_", "consumer_"))]


def test_failed_download_is_no_error_of_the_api() -> None:
    """Both are codes of ``ocr_rejections_total``; the objective counts the API's own alone."""
    own = {*(error.code for error in ERRORS), INTERNAL_ERROR}

    assert own.isdisjoint(get_args(DownloadCode))
