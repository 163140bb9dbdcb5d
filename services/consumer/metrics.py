"""Metrics of the consumer; dashboards and alerts read these names.

Labels never hold URLs, keys or texts.
"""

from typing import get_args

from prometheus_client import Counter, Histogram

from services.common.adapters.rabbitmq.retry_policy import possible_settlements
from services.common.runtime.metrics import counter_at_zero
from services.consumer.documents import HANDLED, ShadowCode

IMAGE_AGE_SECONDS = Histogram(
    "consumer_image_age_seconds",
    "Time from the storage of an image to its document.",
    buckets=(0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400),
)
ANNOTATED_CHARACTERS = Counter(
    "consumer_annotated_characters_total",
    "Characters of annotations submitted with predicted images.",
    ["engine", "model_version"],
)
CHARACTER_ERRORS = Counter(
    "consumer_character_errors_total",
    "Edits between those annotations and the predictions.",
    ["engine", "model_version"],
)
SHADOW_READINGS = counter_at_zero(
    "consumer_shadow_readings_total",
    "Images offered to the candidate model, by outcome.",
    ["outcome"],
    [(outcome,) for outcome in (*get_args(ShadowCode), "dropped", "failed")],
)


def register_deliveries() -> Counter:
    """Register the counter of settled deliveries, after the import of all errors."""
    return counter_at_zero(
        "consumer_deliveries_total",
        "Deliveries settled by the consumer, by outcome.",
        ["outcome", "code"],
        possible_settlements(HANDLED),
    )
