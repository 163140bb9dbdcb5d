"""How well each model version reads what people have annotated, whenever they did so."""

import time
from collections import defaultdict
from typing import NamedTuple

import structlog

from services.common.adapters.image_repository import ImageRepository
from services.common.domain.errors import UnavailableError
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
    """Who has read an image last."""

    engine: str
    model_version: str


async def count(images: ImageRepository, bucket: str) -> dict[Model, Tally]:
    """Count all annotated images by the model of their last prediction, a page in memory.

    Raises:
        IndexUnavailableError: MongoDB does not answer.
    """
    tallies: dict[Model, Tally] = defaultdict(Tally)
    async for page in annotated(images, {"bucket": bucket}):
        for image in page:
            if (read := image.document.prediction) is not None:
                model = Model(str(read.engine), str(read.model_version))
                add_to_each([tallies[model]], read, image.right)
    return dict(tallies)


def publish(tallies: dict[Model, Tally]) -> None:
    """Show a count; a model of which no image is left is not shown any more."""
    for gauge in (ANNOTATED_CER, ANNOTATED_EXACT, ANNOTATED_IMAGES, ANNOTATED_CHARACTERS):
        gauge.clear()
    for model, tally in tallies.items():
        ANNOTATED_CER.labels(*model).set(tally.error_rate or 0.0)
        ANNOTATED_EXACT.labels(*model).set(tally.exact_share or 0.0)
        ANNOTATED_IMAGES.labels(*model).set(tally.images)
        ANNOTATED_CHARACTERS.labels(*model).set(tally.characters)
    ANNOTATED_COUNTED.set(time.time())


async def count_and_publish(images: ImageRepository, bucket: str) -> bool:
    """Count and show; return whether it went well."""
    try:
        publish(await count(images, bucket))
    except UnavailableError as error:
        log.warning("annotated images not counted", code=error.code, error=str(error))
        return False
    except Exception:
        # A document that nobody of ours wrote must not end what finds lost images
        log.exception("annotated images not counted")
        return False
    return True
