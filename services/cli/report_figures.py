"""The quality figures of a period, from the documents of ``images``, read once and not kept."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from services.common.domain.accuracy import CharacterErrors
from services.common.domain.image import ImageDocument
from services.common.domain.records import Prediction
from services.quality.annotated import misreading, right_text

BINS = 20
WORST = 15
MOST_BUCKETS = 60
BUCKET_WIDTHS = tuple(
    timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 180, 360, 720, 1440, 10_080)
)


@dataclass
class Tally:
    """Predictions counted together.

    Character errors are counted of annotated images only: edits over the annotations' characters.
    """

    count: int = 0
    low: int = 0
    score_sum: float = 0.0
    annotated: int = 0
    characters: int = 0
    character_errors: int = 0

    @property
    def mean(self) -> float | None:
        """Mean score; None without predictions."""
        return self.score_sum / self.count if self.count else None

    @property
    def low_share(self) -> float | None:
        """Share of low scores; None without predictions."""
        return self.low / self.count if self.count else None

    @property
    def error_rate(self) -> float | None:
        """Character error rate; None without annotations."""
        return self.character_errors / self.characters if self.characters else None

    def document(self) -> Mapping[str, Any]:
        """Return the figures for machines."""
        return {
            "predictions": self.count,
            "mean_score": self.mean,
            "low_scores": self.low,
            "low_score_share": self.low_share,
            "annotated": self.annotated,
            "character_error_rate": self.error_rate,
        }


@dataclass(frozen=True)
class Example:
    """An image that was read with a low score; all texts are by strangers."""

    image: str
    prediction: str
    score: float
    annotation: str | None
    source: str | None


@dataclass
class Figures:
    """All figures of a report.

    Args:
        since: Begin of the period.
        until: Its end.
        low_score: A lower score is low.
    """

    since: datetime
    until: datetime
    low_score: float
    total: Tally = field(default_factory=Tally)
    buckets: dict[datetime, Tally] = field(default_factory=lambda: defaultdict(Tally))
    models: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    by_model: dict[str, dict[datetime, Tally]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Tally))
    )
    distribution: list[int] = field(default_factory=lambda: [0] * BINS)
    rejected: Counter[str] = field(default_factory=Counter)
    _worst: list[tuple[float, int, Example]] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)
    """Part of the hash of each image that was counted: of a million they take 60 MB."""

    @property
    def width(self) -> timedelta:
        """Width of a bucket of time: the smallest usual one that makes few enough of them."""
        period = self.until - self.since
        fitting = (width for width in BUCKET_WIDTHS if period / width <= MOST_BUCKETS)
        return next(fitting, BUCKET_WIDTHS[-1])

    @property
    def per_minute(self) -> float:
        """Predictions per minute over the whole period."""
        return self.total.count / max(1.0, (self.until - self.since).total_seconds() / 60)

    def times(self) -> Iterator[datetime]:
        """Yield the begin of each bucket of the period, empty ones too."""
        begin = self._bucket(self.since)
        while begin <= self.until:
            yield begin
            begin += self.width

    def worst(self) -> list[Example]:
        """Return the predictions with the lowest scores, lowest first."""
        return [example for _, _, example in sorted(self._worst, reverse=True)]

    def add(self, document: ImageDocument) -> None:
        """Count a document, unless it is not of the period or its image counts already."""
        prediction = document.prediction
        if prediction is None:
            if document.status == "rejected" and self._is_first(document):
                self.rejected[str(document.error and document.error.code)] += 1
            return
        at, model = prediction.predicted_at, prediction.model
        if at is None or not self.since <= at <= self.until or not self._is_first(document):
            return
        bucket = self._bucket(at)
        tallies = (
            *(self.total, self.buckets[bucket]),
            *(self.models[model], self.by_model[model][bucket]),
        )
        score = prediction.score
        errors, characters = _character_errors(document, prediction)
        for tally in tallies:
            tally.count += 1
            tally.score_sum += score
            tally.low += score < self.low_score
            tally.annotated += characters > 0
            tally.characters += characters
            tally.character_errors += errors
        self.distribution[min(BINS - 1, int(score * BINS))] += 1
        self._keep_worst(_example(document, prediction))

    def document(self) -> Mapping[str, Any]:
        """Return everything for machines."""
        return {
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "low_score_threshold": self.low_score,
            **self.total.document(),
            "predictions_per_minute": self.per_minute,
            "rejected": dict(self.rejected),
            "score_distribution": self.distribution,
            "models": {name: tally.document() for name, tally in sorted(self.models.items())},
            "over_time": [
                {"from": time.isoformat(), **self.buckets[time].document()}
                for time in self.times()
                if time in self.buckets
            ],
            "worst": [vars(example) for example in self.worst()],
        }

    def _is_first(self, document: ImageDocument) -> bool:
        """Note an image; return whether no document of the same bytes was noted before."""
        image = hash(document.sha256 or document.id)
        is_first = image not in self._seen
        self._seen.add(image)
        return is_first

    def _bucket(self, at: datetime) -> datetime:
        seconds = self.width.total_seconds()
        return datetime.fromtimestamp(at.timestamp() // seconds * seconds, tz=at.tzinfo)

    def _keep_worst(self, example: Example) -> None:
        entry = (-example.score, -self.total.count, example)
        if len(self._worst) < WORST:
            heapq.heappush(self._worst, entry)
        else:
            heapq.heappushpop(self._worst, entry)


def figures_of(
    documents: Iterable[ImageDocument], *, since: datetime, until: datetime, low_score: float
) -> Figures:
    """Return the figures of documents that are at hand."""
    figures = Figures(since, until, low_score)
    for document in documents:
        figures.add(document)
    return figures


def _character_errors(document: ImageDocument, prediction: Prediction) -> CharacterErrors:
    right = right_text(document)
    if right is None:
        return CharacterErrors(0, 0)
    errors = misreading(prediction.text, right=right).errors
    return CharacterErrors(errors, len(right))


def _example(document: ImageDocument, prediction: Prediction) -> Example:
    return Example(
        image=document.id,
        prediction=prediction.text,
        score=prediction.score,
        annotation=document.annotation.text if document.annotation else None,
        source=next((each.url for each in document.sources if each.url), None),
    )
