"""Quality figures of all predictions, counted periodically."""

import asyncio
from collections.abc import Mapping
from itertools import islice
from time import monotonic
from types import MappingProxyType

import structlog

from services.common.adapters.image_repository import ImageRepository
from services.common.domain.errors import UnavailableError
from services.common.domain.image_filter import ImageFilter, Limits
from services.common.runtime.periodic import pause
from services.quality.agreement import Agreements, count_agreement
from services.quality.annotated import predicted
from services.quality.page_tallies import FIELDS as FIELDS_OF_PAGES
from services.review.figures import Figures

log = structlog.stdlib.get_logger(__name__)

RETRY_SECONDS = 10.0
"""Pause after a failed count."""
SHORTEST_SECONDS = 3.0
COST_SHARE = 20
"""Pause between two counts, in times of what the last one took: few images are counted often."""
NAMES = ("sources.url", "sources.collection", "sources.batch_id", "sources.group")
_OWN = ("sha256", "status", "stored_at", "prediction", "annotation", "double_reading.state")
_NAMES = (*_OWN, *NAMES, *FIELDS_OF_PAGES)
FIELDS = dict.fromkeys(_NAMES, 1)
SHOWN_PARTS = 200
Choice = tuple[str, str] | tuple[str, str, int]
"""A value, its words, and how many images have it, if known."""
NO_NAMES: Mapping[str, str] = MappingProxyType({})


def choices(
    figures: Figures | None, chosen: Limits, names: Mapping[str, str] = NO_NAMES
) -> dict[str, list[Choice]]:
    """Return what the selects of collections and batches offer.

    Args:
        figures: The last count; None before the first one.
        chosen: What the address says; it is offered even if it is unknown.
        names: Of batches by id.
    """
    counted = figures.parts.items() if figures else ()
    collections = {part.collection: each.total.images for part, each in counted if not part.batch}
    batches = {
        part.batch: each.total.images
        for part, each in sorted(counted, key=lambda each: each[0].batch, reverse=True)
        if part.batch and chosen.collection in {None, part.collection}
    }
    return {
        "collection": _offered(dict(sorted(collections.items())), chosen.collection),
        "batch": _offered(batches, chosen.batch, names),
    }


def _offered(
    counts: Mapping[str, int], chosen: str | None, names: Mapping[str, str] = NO_NAMES
) -> list[Choice]:
    known: dict[str, Choice] = {
        value: (value, names.get(value, value), count)
        for value, count in islice(counts.items(), SHOWN_PARTS)
    }
    if chosen is None or chosen in known:
        return [*known.values()]
    return [(chosen, names.get(chosen, chosen)), *known.values()]


async def count(images: ImageRepository) -> Figures:
    """Count all predicted images."""
    figures = Figures()
    async for page in predicted(images, ImageFilter(), fields=FIELDS):
        for image in page:
            figures.add(image)
        await asyncio.sleep(0)  # yield to requests during a long count
    return figures


class QualityCounter:
    """The last count."""

    def __init__(self, images: ImageRepository, *, refresh_seconds: float) -> None:
        self._images = images
        self._refresh_seconds = refresh_seconds
        self.figures: Figures | None = None
        self.agreements = Agreements()
        """Of people who read the same images."""

    async def run(self, stop: asyncio.Event) -> None:
        """Count periodically until ``stop`` is set."""
        while not stop.is_set():
            begun = monotonic()
            is_done = await self._count()
            cost = monotonic() - begun
            wanted = max(SHORTEST_SECONDS, COST_SHARE * cost) if is_done else RETRY_SECONDS
            await pause(stop, min(self._refresh_seconds, wanted))

    async def _count(self) -> bool:
        try:
            self.figures = await count(self._images)
            self.agreements = await count_agreement(self._images)
        except UnavailableError as error:
            log.warning("count of quality figures failed", code=error.code, error=str(error))
            return False
        except Exception:
            # A foreign document must not stop the page
            log.exception("count of quality figures failed")
        return True
