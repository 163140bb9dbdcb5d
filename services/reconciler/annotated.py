"""Error rates of each model version on all annotated images."""

import time
from collections import defaultdict
from typing import NamedTuple

import structlog

from services.common.adapters.image_repository import ImageRepository
from services.common.domain.errors import UnavailableError
from services.common.domain.image_filter import ImageFilter
from services.quality.annotated import annotated
from services.quality.tally import Tally, add_to_each
from services.reconciler.metrics import (
    ANNOTATED_CER,
    ANNOTATED_CHARACTERS,
    ANNOTATED_COUNTED,
    ANNOTATED_EXACT,
    ANNOTATED_IMAGES,
)

log = structlog.stdlib.get_logger(__name__)


class Model(NamedTuple):
    """Engine and version of an image's last prediction."""

    engine: str
    model_version: str


async def count(images: ImageRepository, bucket: str) -> dict[Model, Tally]:
    """Count all annotated images by the model of their last prediction, page by page."""
    tallies: dict[Model, Tally] = defaultdict(Tally)
    async for page in annotated(images, ImageFilter(bucket=bucket)):
        for image in page:
            if (prediction := image.document.prediction) is not None:
                model = Model(str(prediction.engine), str(prediction.model_version))
                add_to_each([tallies[model]], prediction, image.reference)
    return dict(tallies)


def publish(tallies: dict[Model, Tally]) -> None:
    """Set the gauges; remove models without images."""
    for gauge in (ANNOTATED_CER, ANNOTATED_EXACT, ANNOTATED_IMAGES, ANNOTATED_CHARACTERS):
        gauge.clear()
    for model, tally in tallies.items():
        ANNOTATED_CER.labels(*model).set(tally.error_rate or 0.0)
        ANNOTATED_EXACT.labels(*model).set(tally.exact_share or 0.0)
        ANNOTATED_IMAGES.labels(*model).set(tally.images)
        ANNOTATED_CHARACTERS.labels(*model).set(tally.characters)
    ANNOTATED_COUNTED.set(time.time())


async def count_and_publish(images: ImageRepository, bucket: str) -> bool:
    """Count and set the gauges; return whether it succeeded."""
    try:
        publish(await count(images, bucket))
    except UnavailableError as error:
        log.warning("count of annotated images failed", code=error.code, error=str(error))
        return False
    except Exception:
        # A foreign document must not stop the search for lost images
        log.exception("count of annotated images failed")
        return False
    return True
