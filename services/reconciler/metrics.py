"""Metrics of the reconciler."""

from prometheus_client import Gauge

from services.common.runtime.metrics import counter_at_zero
from services.reconciler.compare import TO_QUEUE

OBJECTS = Gauge(
    "reconciler_objects",
    "Objects and documents of the last pass of each part, by result.",
    ["state"],
)
QUEUED = counter_at_zero(
    "reconciler_queued_total",
    "Synthetic events queued, by result of the comparison.",
    ["state"],
    [(state,) for state in sorted(TO_QUEUE)],
)
PASSES = counter_at_zero(
    "reconciler_passes_total", "Passes, by outcome.", ["outcome"], [("done",), ("failed",)]
)
REMOVALS_HELD = Gauge(
    "reconciler_removals_held",
    "Removals that the last pass of each part did not queue, as too many objects are missing.",
)
MISSING_PASSES = Gauge(
    "reconciler_missing_passes",
    "Passes in a row, the last one included, that found images without a document.",
)
LAST_SUCCESS = Gauge(
    "reconciler_last_success_timestamp_seconds", "Unix time of the end of the last pass."
)
PASS_SECONDS = Gauge("reconciler_pass_duration_seconds", "Duration of the last finished pass.")
INTERVAL_SECONDS = Gauge("reconciler_interval_seconds", "Configured pause between two passes.")

_MODEL = ("engine", "model_version")

ANNOTATED_CER = Gauge(
    "reconciler_annotated_cer",
    "Character error rate of the annotated images' last predictions.",
    _MODEL,
)
ANNOTATED_EXACT = Gauge(
    "reconciler_annotated_exact_ratio",
    "Share of the annotated images that are read without an error.",
    _MODEL,
)
ANNOTATED_IMAGES = Gauge(
    "reconciler_annotated_images", "Annotated images with a prediction.", _MODEL
)
ANNOTATED_CHARACTERS = Gauge(
    "reconciler_annotated_characters", "Characters of their annotations.", _MODEL
)
ANNOTATED_COUNTED = Gauge(
    "reconciler_annotated_counted_timestamp_seconds",
    "Unix time of the last count of annotated images.",
)
