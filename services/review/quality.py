"""Quality figures of all predictions, counted periodically."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

import structlog

from services.common.adapters.image_repository import ImageRepository
from services.common.domain.errors import UnavailableError
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import ImageFilter
from services.common.domain.records import UPLOADED, How
from services.common.runtime.periodic import periodic
from services.quality.annotated import Image, how_of, predicted
from services.quality.tally import Tally, accepted_remark, add_to_each

log = structlog.stdlib.get_logger(__name__)

BANDS = 10
SHOWN = 30
RETRY_SECONDS = 10.0
"""Pause after a failed count."""
FIELDS = {"sha256": 1, "status": 1, "prediction": 1, "annotation": 1, "sources.url": 1}


@dataclass
class Figures:
    """All figures of the quality page."""

    total: Tally = field(default_factory=Tally)
    bands: list[Tally] = field(default_factory=lambda: [Tally() for _ in range(BANDS)])
    hosts: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    models: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    hows: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    """Annotated images by how their text came about."""
    counted_at: datetime = field(default_factory=lambda: datetime.now(tz=UTC))

    def add(self, image: Image) -> None:
        """Count a predicted image."""
        prediction = image.document.prediction
        if prediction is None:
            return
        band = self.bands[min(BANDS - 1, int(prediction.score * BANDS))]
        hosts = [self.hosts[host] for host in _hosts(image.copies)]
        how = [self.hows[how_of(image.document)]] if image.right else []
        tallies = (self.total, band, self.models[prediction.model], *hosts, *how)
        add_to_each(tallies, prediction, image.right)

    def by_band(self) -> Iterator[tuple[str, Tally]]:
        """Yield the bands of scores, lowest first."""
        for number, tally in enumerate(self.bands):
            yield f"{number / BANDS:.1f} to {(number + 1) / BANDS:.1f}", tally

    @property
    def remark(self) -> str:
        """What texts that were only accepted do to the error rate."""
        return accepted_remark(self.total, self.hows.get(How.ACCEPTED, Tally()))

    def by_host(self) -> list[tuple[str, Tally]]:
        """Return the hosts with most images."""
        return sorted(self.hosts.items(), key=lambda each: (-each[1].images, each[0]))[:SHOWN]

    def by_model(self) -> list[tuple[str, Tally]]:
        """Return the model versions, most images first."""
        return sorted(self.models.items(), key=lambda each: (-each[1].images, each[0]))[:SHOWN]


def _hosts(copies: Sequence[ImageDocument]) -> set[str]:
    found = set()
    for source in (source for each in copies for source in each.sources):
        with suppress(ValueError):  # metadata of uploads is untrusted
            found.add(urlsplit(str(source.url)).hostname or UPLOADED)
    return found or {UPLOADED}


async def count(images: ImageRepository) -> Figures:
    """Count all predicted images.

    Raises:
        IndexUnavailableError: MongoDB does not answer.
    """
    figures = Figures()
    async for page in predicted(images, ImageFilter(), fields=FIELDS):
        for image in page:
            figures.add(image)
        await asyncio.sleep(0)  # yield to requests during a long count
    return figures


class Quality:
    """The last count.

    Args:
        images: The collection.
        refresh_seconds: Pause between two counts.
    """

    def __init__(self, images: ImageRepository, *, refresh_seconds: float) -> None:
        self._images = images
        self._refresh_seconds = refresh_seconds
        self.figures: Figures | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Count periodically until ``stop`` is set."""
        await periodic(
            self._count, stop, seconds=self._refresh_seconds, retry_seconds=RETRY_SECONDS
        )

    async def _count(self) -> bool:
        try:
            self.figures = await count(self._images)
        except UnavailableError as error:
            log.warning("figures not counted", code=error.code, error=str(error))
            return False
        except Exception:
            # A foreign document must not stop the page
            log.exception("figures not counted")
        return True
