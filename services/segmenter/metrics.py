"""Metrics of the segmenter; dashboards and alerts use these names.

Labels never hold URLs, keys or texts.
"""

from collections.abc import Mapping

from prometheus_client import Counter, Histogram

from services.common.adapters.rabbitmq.retry_policy import possible_settlements
from services.common.runtime.metrics import counter_at_zero
from services.segmenter.documents import HANDLED
from services.segmenter.merging import Merged

PAGE_AGE_SECONDS = Histogram(
    "segmenter_page_age_seconds",
    "Time from the storage of a page to that of its lines.",
    buckets=(0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400),
)
PAGE_DURATION_SECONDS = Histogram(
    "segmenter_page_duration_seconds",
    "Time to segment a page, by step.",
    ["step"],
    buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
for each in ("decode", "detect", "cut"):
    PAGE_DURATION_SECONDS.labels(step=each)  # otherwise the first page of each would not be counted
LINES_PER_PAGE = Histogram(
    "segmenter_lines_per_page",
    "Lines found on a page.",
    buckets=(1, 5, 10, 20, 30, 50, 100, 200, 500, 1000),
)
DETECTION_SCORE = Histogram(
    "segmenter_detection_score",
    "The detector's score of the lines found.",
    buckets=(0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
)
LINES = counter_at_zero(
    "segmenter_lines_total",
    "Lines of segmented pages, by outcome.",
    ["state"],
    [("new",), ("kept",), ("gone",), ("superseded",), ("drawn",)],
)


def register_pages() -> Counter:
    """Register the counter of settled deliveries, after the import of all errors."""
    return counter_at_zero(
        "segmenter_pages_total",
        "Deliveries settled by the segmenter, by outcome.",
        ["outcome", "code"],
        possible_settlements(HANDLED),
    )


def observe(merged: Merged, seconds: Mapping[str, float]) -> None:
    """Count a segmented page."""
    current = [line for line in merged.lines if line.state == "current"]
    LINES_PER_PAGE.observe(len(current))
    for line in current:
        if line.score is not None:
            DETECTION_SCORE.observe(line.score)
    for step, took in seconds.items():
        PAGE_DURATION_SECONDS.labels(step=step).observe(took)
    LINES.labels(state="new").inc(len(merged.new))
    LINES.labels(state="kept").inc(merged.kept)
    LINES.labels(state="gone").inc(len(merged.gone))
    LINES.labels(state="superseded").inc(len(merged.lines) - len(current))
