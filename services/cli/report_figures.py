"""Quality figures of a period, streamed from ``images``."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from services.common.domain.image import ImageDocument
from services.common.domain.records import How, Prediction
from services.quality.agreement import Agreements
from services.quality.annotated import how_of, reference_text
from services.quality.page_tallies import PageTallies
from services.quality.tally import Tally, accepted_remark, add_to_each

BINS = 20
WORST = 15
MOST_BUCKETS = 60
BUCKET_WIDTHS = tuple(
    timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 180, 360, 720, 1440, 10_080)
)


@dataclass(frozen=True)
class Example:
    """An image with a low score and no annotation; all texts are untrusted."""

    image: str
    prediction: str
    score: float
    source: str | None
    """Its URL, or its name in a collection."""


@dataclass
class Figures:
    """All figures of a report."""

    since: datetime
    until: datetime
    low_score: float
    total: Tally = field(default_factory=Tally)
    buckets: dict[datetime, Tally] = field(default_factory=lambda: defaultdict(Tally))
    models: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    hows: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    """Annotated images by how their text came about."""
    lines: PageTallies = field(default_factory=PageTallies)
    by_model: dict[str, dict[datetime, Tally]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Tally))
    )
    distribution: list[int] = field(default_factory=lambda: [0] * BINS)
    rejected: Counter[str] = field(default_factory=Counter)
    agreements: Agreements = field(default_factory=Agreements)
    """Of all images that two people have read, in whatever period."""
    _worst: list[tuple[float, int, Example]] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)
    """Truncated hash of each counted image: 60 MB for a million."""

    @property
    def width(self) -> timedelta:
        """Width of a time bucket: the smallest usual one with few enough buckets."""
        period = self.until - self.since
        fitting = (width for width in BUCKET_WIDTHS if period / width <= MOST_BUCKETS)
        return next(fitting, BUCKET_WIDTHS[-1])

    @property
    def per_minute(self) -> float:
        """Predictions per minute over the whole period."""
        return self.total.images / max(1.0, (self.until - self.since).total_seconds() / 60)

    @property
    def remark(self) -> str:
        """Effect of merely accepted texts on the error rate."""
        return str(accepted_remark(self.total, self.hows.get(How.ACCEPTED, Tally())) or "")

    def times(self) -> Iterator[datetime]:
        """Yield the start of each bucket of the period, including empty ones."""
        begin = self._bucket(self.since)
        while begin <= self.until:
            yield begin
            begin += self.width

    def worst(self) -> list[Example]:
        """Return the first images to annotate: the lowest scores, lowest first."""
        return [example for _, _, example in sorted(self._worst, reverse=True)]

    def add(self, document: ImageDocument) -> None:
        """Count a document of the period, once per image."""
        prediction = document.prediction
        if prediction is None:
            if document.status == "rejected" and self._is_first(document):
                self.rejected[str(document.error and document.error.code)] += 1
            return
        at, model = prediction.predicted_at, prediction.model
        if at is None or not self.since <= at <= self.until or not self._is_first(document):
            return
        bucket = self._bucket(at)
        reference = reference_text(document)
        tallies = (
            *(self.total, self.buckets[bucket]),
            *(self.models[model], self.by_model[model][bucket]),
            *([self.hows[how_of(document)]] if reference else []),
            *self.lines.of(document),
        )
        add_to_each(tallies, prediction, reference, low_score=self.low_score)
        self.distribution[min(BINS - 1, int(prediction.score * BINS))] += 1
        if document.annotation is None:
            self._keep_worst(_example(document, prediction))

    def document(self) -> Mapping[str, Any]:
        """Return everything as JSON-serialisable values."""
        return {
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "low_score_threshold": self.low_score,
            **_document(self.total),
            "predictions_per_minute": self.per_minute,
            "rejected": dict(self.rejected),
            "score_distribution": self.distribution,
            "models": {name: _document(each) for name, each in sorted(self.models.items())},
            "annotations": {name: _document(each) for name, each in sorted(self.hows.items())},
            "lines_of_pages": {
                kind: {name.id: _document(tally) for name, tally in tallies}
                for kind, tallies in self.lines.groups()
            },
            "over_time": [
                {"from": time.isoformat(), **_document(self.buckets[time])}
                for time in self.times()
                if time in self.buckets
            ],
            "agreement": self.agreements.document(),
            "worst": [vars(example) for example in self.worst()],
        }

    def _is_first(self, document: ImageDocument) -> bool:
        """Record an image; return whether it is new."""
        image = hash(document.sha256 or document.id)
        is_first = image not in self._seen
        self._seen.add(image)
        return is_first

    def _bucket(self, at: datetime) -> datetime:
        seconds = self.width.total_seconds()
        return datetime.fromtimestamp(at.timestamp() // seconds * seconds, tz=at.tzinfo)

    def _keep_worst(self, example: Example) -> None:
        entry = (-example.score, -self.total.images, example)
        if len(self._worst) < WORST:
            heapq.heappush(self._worst, entry)
        else:
            heapq.heappushpop(self._worst, entry)


def _document(counted: Tally) -> dict[str, Any]:
    """Return figures as JSON-serialisable values."""
    return {
        "predictions": counted.images,
        "mean_score": counted.mean,
        "low_scores": counted.low,
        "low_score_share": counted.low_share,
        "expected_character_error_rate": counted.expected_error_rate,
        "expected_of_predictions": counted.expected_images,
        "annotated": counted.annotated,
        "character_error_rate": counted.error_rate,
    }


def _example(document: ImageDocument, prediction: Prediction) -> Example:
    return Example(
        image=document.id,
        prediction=prediction.text,
        score=prediction.score,
        source=next((each.origin for each in document.sources), None),
    )
