"""Metrics of the OCR API; dashboards and alerts read these names.

Labels never hold texts or file names.
"""

from prometheus_client import CollectorRegistry, Counter, Histogram

from app.errors import ERRORS
from app.schemas import Prediction

INTERNAL_ERROR = "internal_error"
"""Code of a bug of ours, as ``problems`` answers it."""

_MODEL = ("engine", "model_version")
_SCORE_EDGES = (*(step / 20 for step in range(1, 20)), 0.98, 0.99, 1.0)
_DURATION_EDGES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10)


class OcrMetrics:
    """The instruments of one API.

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
        self._rejections = Counter(
            "ocr_rejections_total", "Requests refused.", ["code"], registry=registry
        )
        for code in (*(error.code for error in ERRORS), INTERNAL_ERROR):
            self._rejections.labels(code=code)

    def announce(self, *, engine: str, model_version: str) -> None:
        """Make a model's series exist at zero: an alert sees the first increase, not a birth."""
        for metric in (self._scores, self._predictions, self._low_scores, self._durations):
            metric.labels(engine=engine, model_version=model_version)

    def count_prediction(self, prediction: Prediction) -> None:
        """Record a prediction."""
        model = {"engine": prediction.engine, "model_version": prediction.model_version}
        self._scores.labels(**model).observe(prediction.score)
        self._predictions.labels(**model).inc()
        self._durations.labels(**model).observe(prediction.duration_ms / 1000)
        if prediction.score < self._threshold:
            self._low_scores.labels(**model).inc()

    def count_rejection(self, code: str) -> None:
        """Record a request that ended in an error.

        Args:
            code: The error's ``code``.
        """
        self._rejections.labels(code=code).inc()
