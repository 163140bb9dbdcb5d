"""Quality figures of all predictions, counted periodically."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from time import monotonic
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlsplit

import structlog

from services.common.adapters.image_repository import ImageRepository
from services.common.domain.errors import UnavailableError
from services.common.domain.image_filter import ImageFilter, Limits
from services.common.domain.records import UPLOADED, How, Prediction, Source
from services.common.domain.texts import Text
from services.common.runtime.periodic import pause
from services.quality.annotated import Image, how_of, predicted
from services.quality.page_tallies import FIELDS as FIELDS_OF_PAGES
from services.quality.page_tallies import PageTallies, badness
from services.quality.tally import Tally, accepted_remark, add_to_each

log = structlog.stdlib.get_logger(__name__)

BANDS = 10
SHOWN = 30
RETRY_SECONDS = 10.0
"""Pause after a failed count."""
SHORTEST_SECONDS = 3.0
COST_SHARE = 20
"""Pause between two counts, in times of what the last one took: few images are counted often."""
ENOUGH = 10
"""Images, or annotated ones, from which a rate says something."""
STEPS = tuple(timedelta(minutes=minutes) for minutes in (10, 60, 360, 1440))
"""Steps of the figures over time."""
MOST_STEPS = 60
SHOWN_TIME = timedelta(days=60)
NAMES = ("sources.url", "sources.collection", "sources.batch_id")
_NAMES = ("sha256", "status", "prediction", "annotation", *NAMES, *FIELDS_OF_PAGES)
FIELDS = dict.fromkeys(_NAMES, 1)
MOST_PARTS = 5000
"""Collections and batches that are counted by themselves; each takes some 5 kB."""
SHOWN_PARTS = 200
NO_NAMES: Mapping[str, str] = MappingProxyType({})


class Part(NamedTuple):
    """A collection, or one of its batches."""

    collection: str
    batch: str = ""


class Worst(NamedTuple):
    """The source that is read worst."""

    limit: str
    """Name of its filter: collection or host."""
    name: str
    tally: Tally


@dataclass
class Figures:
    """All figures of the quality page, of all images or of a part of them."""

    total: Tally = field(default_factory=Tally)
    bands: list[Tally] = field(default_factory=lambda: [Tally() for _ in range(BANDS)])
    hosts: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    models: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    hows: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    """Annotated images by how their text came about."""
    lines: PageTallies = field(default_factory=PageTallies)
    parts: dict[Part, "Figures"] = field(default_factory=dict)
    times: dict[datetime, Tally] = field(default_factory=lambda: defaultdict(Tally))
    """By the time of the prediction, in steps of ``STEPS[0]``; of all images only."""
    counted_at: datetime = field(default_factory=lambda: datetime.now(tz=UTC))

    def add(self, image: Image) -> None:
        """Count a predicted image."""
        prediction = image.document.prediction
        if prediction is None:
            return
        sources = [source for each in image.copies for source in each.sources]
        hosts = _hosts(sources)
        figures = [self, *self._parts(sources)]
        tallies = [tally for each in figures for tally in each.tallies(image, prediction, hosts)]
        if (at := prediction.predicted_at) and self.counted_at - SHOWN_TIME < at:
            tallies.append(self.times[_step_of(at, STEPS[0])])
        add_to_each(tallies, prediction, image.reference)

    def of(self, limits: Limits) -> "Figures":
        """Return the figures of a batch, or else of a collection; empty ones if unknown."""
        if not (limits.collection or limits.batch):
            return self
        fits = (
            figures
            for part, figures in self.parts.items()
            if part.batch == (limits.batch or "") and limits.collection in {None, part.collection}
        )
        return next(fits, Figures(counted_at=self.counted_at))

    def by_collection(self) -> list[tuple[str, Tally]]:
        """Return the collections with most images."""
        return _largest(self._collections())

    def _collections(self) -> dict[str, Tally]:
        return {part.collection: each.total for part, each in self.parts.items() if not part.batch}

    def _parts(self, sources: Sequence[Source]) -> list["Figures"]:
        parts = {Part(each.collection) for each in sources if each.collection}
        parts |= {Part(each.collection or "", each.batch_id) for each in sources if each.batch_id}
        for part in parts if len(self.parts) < MOST_PARTS else ():
            self.parts.setdefault(part, Figures())
        return [self.parts[part] for part in parts if part in self.parts]

    def tallies(self, image: Image, prediction: Prediction, hosts: set[str]) -> Iterator[Tally]:
        """Yield what an image counts in."""
        yield self.total
        yield self.bands[min(BANDS - 1, int(prediction.score * BANDS))]
        yield self.models[prediction.model]
        yield from (self.hosts[host] for host in hosts)
        yield from self.lines.of(image.document)
        if image.reference:
            yield self.hows[how_of(image.document)]

    def by_band(self) -> Iterator[tuple[str, Tally]]:
        """Yield the bands of scores, lowest first."""
        for number, tally in enumerate(self.bands):
            yield f"{number / BANDS:.1f} to {(number + 1) / BANDS:.1f}", tally

    def by_time(self) -> list[tuple[datetime, Tally]]:
        """Return the steps of time in which images were read, oldest first."""
        span = max(self.times) - min(self.times) if self.times else timedelta()
        width = next((each for each in STEPS if span / each < MOST_STEPS), STEPS[-1])
        steps: dict[datetime, Tally] = defaultdict(Tally)
        for at, tally in sorted(self.times.items()):
            steps[_step_of(at, width)].add(tally)
        return list(steps.items())

    @property
    def newest_mean(self) -> float | None:
        """Mean score of the last step of time with enough images."""
        steps = (tally.mean for _, tally in reversed(self.by_time()) if tally.images >= ENOUGH)
        return next(steps, None)

    def worst(self) -> "Worst | None":
        """Return the collection, else the host, that is read worst, of several."""
        for limit, tallies in (("collection", self._collections()), ("host", self.hosts)):
            enough = {
                name: each
                for name, each in tallies.items()
                if each.images >= ENOUGH and name != UPLOADED
            }
            rated = {name: each for name, each in enough.items() if each.annotated >= ENOUGH}
            if len(enough) > 1:
                name = min(rated or enough, key=lambda each: badness(enough[each]))
                return Worst(limit, name, enough[name])
        return None

    @property
    def remark(self) -> Text | None:
        """Effect of merely accepted texts on the error rate, if any."""
        return accepted_remark(self.total, self.hows.get(How.ACCEPTED, Tally()))

    def by_host(self) -> list[tuple[str, Tally]]:
        """Return the hosts with most images."""
        return _largest(self.hosts)

    def by_model(self) -> list[tuple[str, Tally]]:
        """Return the model versions, most images first."""
        return _largest(self.models)


def choices(
    figures: Figures | None, chosen: Limits, names: Mapping[str, str] = NO_NAMES
) -> dict[str, list[tuple[str, str]]]:
    """Return what the selects of collections and batches offer: values with their words.

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
) -> list[tuple[str, str]]:
    known = [
        (value, f"{names.get(value, value)} ({count:,})")
        for value, count in islice(counts.items(), SHOWN_PARTS)
    ]
    is_new = chosen is not None and chosen not in dict(known)
    new = [(str(chosen), names.get(str(chosen), str(chosen)))] if is_new else []
    return [("", "any"), *new, *known]


def _step_of(at: datetime, width: timedelta) -> datetime:
    seconds = width.total_seconds()
    return datetime.fromtimestamp(at.timestamp() // seconds * seconds, tz=UTC)


def _largest(tallies: Mapping[str, Tally]) -> list[tuple[str, Tally]]:
    return sorted(tallies.items(), key=lambda each: (-each[1].images, each[0]))[:SHOWN]


def _hosts(sources: Iterable[Source]) -> set[str]:
    found = set()
    for source in sources:
        with suppress(ValueError):  # metadata of uploads is untrusted
            found.add(urlsplit(str(source.url)).hostname or UPLOADED)
    return found or {UPLOADED}


async def count(images: ImageRepository) -> Figures:
    """Count all predicted images.

    Raises:
        DatabaseUnavailableError: MongoDB does not answer.
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
        refresh_seconds: Longest pause between two counts.
    """

    def __init__(self, images: ImageRepository, *, refresh_seconds: float) -> None:
        self._images = images
        self._refresh_seconds = refresh_seconds
        self.figures: Figures | None = None

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
        except UnavailableError as error:
            log.warning("count of quality figures failed", code=error.code, error=str(error))
            return False
        except Exception:
            # A foreign document must not stop the page
            log.exception("count of quality figures failed")
        return True
