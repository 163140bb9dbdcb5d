"""Error rates with confidence intervals, calibration, and significance of differences.

Intervals are the percentile bootstrap over images (Efron and Tibshirani, 1993), which is seeded:
the same samples give the same figures.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from scipy import stats

from services.common.domain.records import How
from services.datasets.differences import (
    RESAMPLES,
    SEED,
    SIGNIFICANT,
    Floats,
    Rise,
    batch_of,
    find_rises,
    p_value,
)
from services.datasets.evaluation import EvaluatedReading
from services.quality.estimates import Estimate
from services.quality.reliability import BANDS, Reliability, band_of
from services.quality.tally import (
    LENGTHS,
    Tally,
    accepted_remark,
    compared,
    length_name,
    length_of,
    merged,
)

CONFIDENCE = 0.95
MOST_HOSTS = 20
WORST = 15
Key = TypeVar("Key", str, int)


@dataclass(frozen=True)
class GroupRates:
    """Figures of some images, without intervals."""

    images: int
    cer: float
    exact: float


@dataclass(frozen=True)
class ScoreBin:
    """Images whose score is between two limits."""

    low: float
    high: float
    images: int
    score: float
    """Mean score."""
    exact: float
    """Share read without error, which a calibrated score equals."""


@dataclass(frozen=True)
class ModelQuality:
    """Quality of a model."""

    images: int
    cer: Estimate
    wer: Estimate
    exact: Estimate
    calibration_error: float
    """Expected calibration error: mean distance of score and exact share, by images."""
    bins: list[ScoreBin]
    by_host: dict[str, GroupRates]
    by_length: dict[str, GroupRates]
    by_how: dict[str, GroupRates]
    """By origin of the reference text."""
    remark: str
    """Effect of merely accepted texts on the error rate."""
    worst: list[EvaluatedReading]

    @property
    def groups(self) -> list[tuple[str, Mapping[str, GroupRates]]]:
        """Rates by what groups the images, in words."""
        return [
            ("length", self.by_length),
            ("source", self.by_host),
            ("how the text came about", self.by_how),
        ]


@dataclass(frozen=True)
class MetricDifference:
    """Difference of two models' figures on the same images."""

    estimate: Estimate
    p_value: float
    """Probability of such a difference by chance."""


@dataclass(frozen=True)
class Comparison:
    """Two models on the images read by both."""

    images: int
    cer: MetricDifference
    exact: MetricDifference
    rises: list[Rise]
    """Sources that the first model reads worse."""

    @property
    def verdicts(self) -> list[str]:
        """Description of the differences between both models."""
        differences = [
            f"{name}: {difference.estimate} points of difference, p = {difference.p_value:.3f}: "
            + ("a difference" if difference.p_value < SIGNIFICANT else "may be chance")
            for name, difference in (("CER", self.cer), ("exact", self.exact))
        ]
        return [*differences, *map(str, self.rises)]


def quality_of(samples: Sequence[EvaluatedReading]) -> ModelQuality:
    """Return the figures of at least one sample."""
    errors, characters = _column(samples, lambda each: each.errors), _lengths(samples)
    wrong_words = _column(samples, lambda each: each.word_errors)
    words = _column(samples, lambda each: each.words)
    exact = _column(samples, lambda each: each.is_exact)
    bands = _tallies(samples, lambda each: band_of(each.score))
    hosts = _tallies(samples, lambda each: each.host)
    frequent = sorted(hosts, key=lambda name: (-hosts[name].images, name))[:MOST_HOSTS]
    lengths = _tallies(samples, lambda each: length_of(len(each.reference)))
    hows = _tallies(samples, lambda each: each.how)
    return ModelQuality(
        images=len(samples),
        cer=_estimate(_rate, errors, characters),
        wer=_estimate(_rate, wrong_words, words),
        exact=_estimate(_mean, exact),
        calibration_error=Reliability("", bands).calibration_error or 0.0,
        bins=[_bin(*each) for each in sorted(bands.items())],
        by_host=_rates({name: hosts[name] for name in frequent}),
        by_length=_rates(
            {name: lengths[name] for name in map(length_name, LENGTHS) if name in lengths}
        ),
        by_how=_rates(hows),
        remark=str(accepted_remark(merged(hows.values()), hows.get(How.ACCEPTED, Tally())) or ""),
        worst=sorted(samples, key=_badness)[:WORST],
    )


def compare(one: Sequence[EvaluatedReading], other: Sequence[EvaluatedReading]) -> Comparison:
    """Compare two models on the same images, in the same order; at least two."""
    lengths = _lengths(one)
    errors = [_column(samples, lambda each: each.errors) for samples in (one, other)]
    exact = [_column(samples, lambda each: each.is_exact) for samples in (one, other)]
    total = float(lengths.sum())
    by_host = defaultdict(list)
    for pair in zip(one, other, strict=True):
        by_host[pair[0].host].append(pair)
    return Comparison(
        images=len(one),
        cer=MetricDifference(
            _estimate(_rate_difference, *errors, lengths),
            p_value(errors, lambda a, b, axis: (a.sum(axis) - b.sum(axis)) / total),
        ),
        exact=MetricDifference(
            _estimate(_mean_difference, *exact),
            p_value(exact, lambda a, b, axis: a.mean(axis) - b.mean(axis)),
        ),
        rises=find_rises(by_host),
    )


def _badness(sample: EvaluatedReading) -> tuple[float, str]:
    return (-sample.errors / len(sample.reference), sample.image)


def _bin(band: int, tally: Tally) -> ScoreBin:
    return ScoreBin(
        band / BANDS,
        (band + 1) / BANDS,
        tally.images,
        tally.score_sum / tally.images,
        tally.exact / tally.images,
    )


def _rates(tallies: Mapping[str, Tally]) -> dict[str, GroupRates]:
    return {
        name: GroupRates(each.images, each.errors / each.characters, each.exact / each.images)
        for name, each in tallies.items()
    }


def _tallies(
    samples: Sequence[EvaluatedReading], group: Callable[[EvaluatedReading], Key]
) -> Mapping[Key, Tally]:
    tallies: dict[Key, Tally] = defaultdict(Tally)
    for each in samples:
        tallies[group(each)].add(compared(each.score, each.errors, len(each.reference)))
    return tallies


def _column(
    samples: Sequence[EvaluatedReading], value: Callable[[EvaluatedReading], float]
) -> Floats:
    return np.array([value(each) for each in samples], dtype=np.float64)


def _lengths(samples: Sequence[EvaluatedReading]) -> Floats:
    return _column(samples, lambda each: len(each.reference))


def _rate(errors: Floats, lengths: Floats, axis: int) -> Any:
    return errors.sum(axis) / lengths.sum(axis)


def _mean(values: Floats, axis: int) -> Any:
    return values.mean(axis)


def _rate_difference(one: Floats, other: Floats, lengths: Floats, axis: int) -> Any:
    return (one.sum(axis) - other.sum(axis)) / lengths.sum(axis)


def _mean_difference(one: Floats, other: Floats, axis: int) -> Any:
    return one.mean(axis) - other.mean(axis)


def _estimate(statistic: Callable[..., Any], *columns: Floats) -> Estimate:
    value = float(statistic(*columns, axis=-1))
    size = len(columns[0])
    if size < 2:
        return Estimate(value, None, None)
    found = stats.bootstrap(
        columns,
        statistic,
        paired=len(columns) > 1,
        vectorized=True,
        method="percentile",
        n_resamples=RESAMPLES,
        batch=batch_of(size),
        confidence_level=CONFIDENCE,
        rng=np.random.default_rng(SEED),
    )
    low, high = found.confidence_interval
    return Estimate(value, float(low), float(high))
