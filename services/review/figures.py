"""Figures of predictions by what groups the images: pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

from services.common.domain.accuracy import Confusion, confusions
from services.common.domain.annotations import collapse
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import Limits
from services.common.domain.records import UPLOADED, How, Prediction, Source
from services.common.domain.texts import Text
from services.quality.annotated import AnnotatedImage, how_of
from services.quality.estimates import Estimate, difference
from services.quality.page_tallies import PageTallies, badness
from services.quality.reliability import BANDS, Reliability, band_of
from services.quality.tally import (
    LENGTHS,
    Tally,
    accepted_remark,
    add_to_each,
    length_name,
    length_of,
)

SHOWN = 30
ENOUGH = 10
"""Images, or annotated ones, from which a rate says something."""
STEPS = tuple(timedelta(minutes=minutes) for minutes in (10, 60, 360, 1440))
"""Steps of the figures over time."""
MOST_STEPS = 60
SHOWN_TIME = timedelta(days=60)
MOST_PARTS = 5000
"""Collections and batches that are counted by themselves; each takes some 15 kB."""
MOST_CONFUSIONS = 200
"""Different confusions that are counted of a part, and ten times as many of all images. Images come
by hash, which is at random, so frequent ones are among the first."""
WEEK = timedelta(days=7)
SHOWN_MODELS = 3
SHOWN_GROUPS = 200


class FiguresKey(NamedTuple):
    """A collection, or one of its batches."""

    collection: str
    batch: str = ""


class Worst(NamedTuple):
    """The source that is read worst."""

    limit: str
    """Name of its filter: collection or host."""
    name: str
    tally: Tally


class Change(NamedTuple):
    """A figure of the last week and of the one before."""

    name: str
    """Score, errors or exact."""
    now: Estimate | None
    before: Estimate | None

    @property
    def difference(self) -> Estimate | None:
        """The last week's less the other's; None if one is unknown."""
        return difference(self.now, self.before) if self.now and self.before else None


@dataclass
class Figures:
    """All figures of the quality page, of all images or of a part of them."""

    total: Tally = field(default_factory=Tally)
    bands: list[Tally] = field(default_factory=lambda: [Tally() for _ in range(BANDS)])
    hosts: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    models: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    hows: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    """Annotated images by how their text came about."""
    lengths: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    """Annotated images by the length of their text."""
    weeks: dict[int, Tally] = field(default_factory=lambda: defaultdict(Tally))
    """By when images were stored: 0 in the last week, 1 in the one before."""
    rated: dict[tuple[str, int], Tally] = field(default_factory=lambda: defaultdict(Tally))
    """Annotated images by model and band of the score."""
    confusions: Counter[Confusion] = field(default_factory=Counter)
    lines: PageTallies = field(default_factory=PageTallies)
    parts: dict[FiguresKey, "Figures"] = field(default_factory=dict)
    times: dict[datetime, Tally] = field(default_factory=lambda: defaultdict(Tally))
    """By the time of the prediction, in steps of ``STEPS[0]``; of all images only."""
    groups: Counter[str] = field(default_factory=Counter)
    """Images by group; of all images only."""
    counted_at: datetime = field(default_factory=lambda: datetime.now(tz=UTC))

    def add(self, image: AnnotatedImage) -> None:
        """Count a predicted image."""
        prediction = image.document.prediction
        if prediction is None:
            return
        sources = [source for each in image.copies for source in each.sources]
        groups = _Groups.of(image, prediction, sources, self.counted_at)
        wrong: list[Confusion] = []
        if image.reference:
            text = collapse(prediction.text)
            wrong = confusions(reference=image.reference, hypothesis=text)
        figures = [self, *self._parts(sources)]
        for each in figures:
            each.confuse(wrong, most=MOST_CONFUSIONS * (10 if each is self else 1))
        tallies = [tally for each in figures for tally in each.tallies(groups)]
        named = {each.group for each in sources if each.group}
        self.groups.update(named if len(self.groups) < MOST_PARTS else named & set(self.groups))
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
        parts = {FiguresKey(each.collection) for each in sources if each.collection}
        parts |= {
            FiguresKey(each.collection or "", each.batch_id) for each in sources if each.batch_id
        }
        if len(self.parts) < MOST_PARTS:
            self.parts.update({part: Figures() for part in parts - self.parts.keys()})
        return [self.parts[part] for part in parts if part in self.parts]

    def tallies(self, groups: "_Groups") -> Iterator[Tally]:
        """Yield what an image counts in."""
        yield self.total
        yield self.bands[groups.band]
        yield self.models[groups.model]
        yield from (self.hosts[host] for host in groups.hosts)
        yield from self.lines.of(groups.document)
        if groups.week in {0, 1}:
            yield self.weeks[groups.week]
        if groups.how:
            yield self.hows[groups.how]
            yield self.lengths[groups.length]
            yield self.rated[groups.model, groups.band]

    def confuse(self, wrong: Sequence[Confusion], *, most: int) -> None:
        """Count an image's confusions, of at most so many different ones."""
        for each in wrong:
            if each in self.confusions or len(self.confusions) < most:
                self.confusions[each] += 1

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

    def by_length(self) -> list[tuple[str, Tally]]:
        """Return the bands of lengths that there are, shortest first."""
        return [
            (name, self.lengths[name]) for name in map(length_name, LENGTHS) if name in self.lengths
        ]

    def reliability(self, model: str | None = None, name: str = "") -> Reliability:
        """Return that of a model, or of all."""
        bands: dict[int, Tally] = defaultdict(Tally)
        for (each, band), tally in self.rated.items():
            if model in {None, each}:
                bands[band].add(tally)
        return Reliability(name or model or "", dict(sorted(bands.items())))

    def reliabilities(self) -> list[Reliability]:
        """Return that of the models with most annotated images."""
        models = {model for model, _ in self.rated}
        each = sorted(
            map(self.reliability, models), key=lambda each: (-each.total.annotated, each.name)
        )
        return each[:SHOWN_MODELS]

    def reliability_by_collection(self) -> list[Reliability]:
        """Return that of the collections with most images."""
        parts = (
            self.parts[FiguresKey(name)].reliability(name=name) for name, _ in self.by_collection()
        )
        return [each for each in parts if each.bands]

    def drift(self) -> list[Change]:
        """Return how images of the last week were read, against those of the week before."""
        now, before = self.weeks.get(0, Tally()), self.weeks.get(1, Tally())
        return [
            Change("score", now.mean_estimate, before.mean_estimate),
            Change("errors", now.error_estimate, before.error_estimate),
            Change("exact", now.exact_estimate, before.exact_estimate),
        ]

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

    def suggested(self) -> dict[str, list[tuple[str, int]]]:
        """Return the hosts and groups with most images, each with their number."""
        hosts = [(name, tally.images) for name, tally in self.by_host() if name != UPLOADED]
        return {"host": hosts, "group": self.groups.most_common(SHOWN_GROUPS)}

    def by_model(self) -> list[tuple[str, Tally]]:
        """Return the model versions, most images first."""
        return _largest(self.models)


def _step_of(at: datetime, width: timedelta) -> datetime:
    seconds = width.total_seconds()
    return datetime.fromtimestamp(at.timestamp() // seconds * seconds, tz=UTC)


def _largest(tallies: Mapping[str, Tally]) -> list[tuple[str, Tally]]:
    return sorted(tallies.items(), key=lambda each: (-each[1].images, each[0]))[:SHOWN]


def _hosts(sources: Iterable[Source]) -> set[str]:
    return {each.host or UPLOADED for each in sources} or {UPLOADED}


class _Groups(NamedTuple):
    """Groups that an image is counted in."""

    document: ImageDocument
    band: int
    model: str
    hosts: set[str]
    week: int
    how: str
    """Empty if it is not annotated."""
    length: str

    @classmethod
    def of(
        cls, image: AnnotatedImage, prediction: Prediction, sources: Sequence[Source], now: datetime
    ) -> Self:
        stored = min((each.stored_at for each in image.copies if each.stored_at), default=None)
        return cls(
            document=image.document,
            band=band_of(prediction.score),
            model=prediction.model,
            hosts=_hosts(sources),
            week=-1 if stored is None else (now - stored) // WEEK,
            how=how_of(image.document) if image.reference else "",
            length=length_of(len(image.reference or "")),
        )
