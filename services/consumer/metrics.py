"""Metrics of the consumer; dashboards and alerts read these names.

Labels never hold URLs, keys or texts.
"""

from prometheus_client import Counter, Histogram

from services.common.adapters.rabbitmq.settlement import possible_settlements
from services.common.runtime.metrics import counter_at_zero
from services.consumer.documents import HANDLED

IMAGE_AGE_SECONDS = Histogram(
    "consumer_image_age_seconds",
    "Time from an image being stored to its document being written.",
    buckets=(0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400),
)
ANNOTATED_CHARACTERS = Counter(
    "consumer_annotated_characters_total",
    "Characters of the annotations that came along with predicted images.",
    ["engine", "model_version"],
)
CHARACTER_ERRORS = Counter(
    "consumer_character_errors_total",
    "Characters of those images' predictions that are wrong, missing or superfluous.",
    ["engine", "model_version"],
)


def register_deliveries() -> Counter:
    """Register the counter of settled deliveries, once; every error must be imported by then."""
    return counter_at_zero(
        "consumer_deliveries_total",
        "Deliveries settled by the consumer, by what became of them.",
        ["outcome", "code"],
        possible_settlements(HANDLED),
    )
