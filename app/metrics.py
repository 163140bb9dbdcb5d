"""Metrics of the OCR API; dashboards and alerts read these names.

Labels never hold texts or file names.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.errors import ERRORS, INTERNAL_ERROR, OverloadedError
from app.schemas import Prediction
from services.common.download.errors import DownloadCode
from services.common.download.transport import DownloadMetrics
from services.common.runtime.metrics import counter_at_zero

DROP_REASONS = ("buffer_full", "stopped", "not_an_image", "internal_error")
"""Reasons to drop an image that should be collected."""
_MODEL = ("engine", "model_version")
_SCORE_EDGES = (*(step / 20 for step in range(1, 20)), 0.98, 0.99, 1.0)
_WAIT_EDGES = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)
_BATCH_EDGES = (1, 2, 4, 8, 16, 32)
_DURATION_EDGES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10)


class OcrMetrics:
    """Metrics of one API.

    Args:
        registry: Where they are registered, once.
        low_score_threshold: A score under it is low; it is an edge of the score's buckets, so that
            Prometheus counts exactly.
    """

    def __init__(self, registry: CollectorRegistry, *, low_score_threshold: float) -> None:
        self._threshold = low_score_threshold
        self._scores = Histogram(
            "ocr_prediction_score",
            "Confidence of predictions.",
            _MODEL,
            buckets=sorted({*_SCORE_EDGES, low_score_threshold}),
            registry=registry,
        )
        self._predictions = Counter(
            "ocr_predictions_total", "Predictions made.", _MODEL, registry=registry
        )
        self._low_scores = Counter(
            "ocr_low_score_predictions_total",
            "Predictions with a score under the threshold.",
            _MODEL,
            registry=registry,
        )
        self._durations = Histogram(
            "ocr_prediction_duration_seconds",
            "Time to decode and read an image, without waiting.",
            _MODEL,
            buckets=_DURATION_EDGES,
            registry=registry,
        )
        codes = {*(error.code for error in ERRORS), INTERNAL_ERROR, *get_args(DownloadCode)}
        self._rejections = counter_at_zero(
            "ocr_rejections_total",
            "Requests refused.",
            ["code"],
            [(code,) for code in sorted(codes)],
            registry=registry,
        )
        self.downloads = DownloadMetrics(registry, service="ocr")
        self._add_load(registry)

    def _add_load(self, registry: CollectorRegistry) -> None:
        # Multiprocess mode: the sum over live processes
        self._model = Gauge(
            "ocr_model_info",
            "The loaded model.",
            _MODEL,
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._waiting = Gauge(
            "ocr_queue_depth",
            "Images that wait to be read.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._in_flight = Gauge(
            "ocr_in_flight_requests",
            "Requests being received, waiting or in work.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._shed = Counter(
            "ocr_shed_requests_total",
            "Images rejected because the queue is full or the wait too long.",
            registry=registry,
        )
        self._waits = Histogram(
            "ocr_queue_wait_seconds",
            "Time that images waited to be read.",
            buckets=_WAIT_EDGES,
            registry=registry,
        )
        self._batches = Histogram(
            "ocr_batch_size", "Images read in one call.", buckets=_BATCH_EDGES, registry=registry
        )

    def announce(self, *, engine: str, model_version: str) -> None:
        """Initialise a model's series at zero, so that alerts see the first increase."""
        self._model.labels(engine=engine, model_version=model_version).set(1)
        for metric in (self._scores, self._predictions, self._low_scores, self._durations):
            metric.labels(engine=engine, model_version=model_version)

    def retire(self, *, engine: str, model_version: str) -> None:
        """Show that a model is no longer loaded."""
        self._model.labels(engine=engine, model_version=model_version).set(0)

    def count_prediction(self, prediction: Prediction) -> None:
        """Record a prediction."""
        model = {"engine": prediction.engine, "model_version": prediction.model_version}
        self._scores.labels(**model).observe(prediction.score)
        self._predictions.labels(**model).inc()
        self._durations.labels(**model).observe(prediction.duration_ms / 1000)
        if prediction.score < self._threshold:
            self._low_scores.labels(**model).inc()

    def count_rejection(self, code: str) -> None:
        """Count a rejected request."""
        self._rejections.labels(code=code).inc()
        if code == OverloadedError.code:
            self._shed.inc()

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Count a request while the block lasts."""
        with self._in_flight.track_inprogress():
            yield

    def show_waiting(self, images: int) -> None:
        """Set the number of waiting images."""
        self._waiting.set(images)

    def count_batch(self, waits_seconds: Sequence[float]) -> None:
        """Record images that are read in one call.

        Args:
            waits_seconds: How long each has waited.
        """
        self._batches.observe(len(waits_seconds))
        for seconds in waits_seconds:
            self._waits.observe(seconds)


class CollectMetrics:
    """Metrics of collected images."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.collected = Counter(
            "ocr_collected_total", "Images of requests written to the bucket.", registry=registry
        )
        self.dropped = counter_at_zero(
            "ocr_collect_dropped_total",
            "Images of requests that should have been collected and were dropped.",
            ["reason"],
            [(reason,) for reason in DROP_REASONS],
            registry=registry,
        )
        self.waiting = Gauge(
            "ocr_collect_waiting",
            "Images of requests that wait to be written to the bucket.",
            registry=registry,
            multiprocess_mode="livesum",
        )
