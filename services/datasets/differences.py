"""Tell a difference of two models on the same images from chance, in all and in each group.

The paired test swaps the two models' errors image by image (a permutation test). It is seeded: the
same samples give the same figures. When a group counts as read worse:
docs/decisions/0054-chance-refuses-no-model.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from typing_extensions import override

from services.datasets.evaluation import EvaluatedReading

SEED = 1
RESAMPLES = 2000
RESAMPLES_OF_A_GROUP = 20_000
"""Enough for the level of one group of hundreds."""
MOST_VALUES = 4_000_000
"""Memory of resampling: 32 MB."""
SIGNIFICANT = 0.05
MARGIN = 0.02
"""Of the character error rate; a group with a smaller rise is not read worse."""
FEWEST = 10
"""Images of a group that is judged by itself."""

Floats = NDArray[np.float64]
Pairs: TypeAlias = Sequence[tuple[EvaluatedReading, EvaluatedReading]]
"""Images as one model and as another one read them."""


@dataclass(frozen=True)
class Rise:
    """A group of images that one model reads worse than the other by more than the margin."""

    group: str
    images: int
    cer: float
    against_cer: float
    """Character error rate of the other model."""
    p_value: float
    """Probability of such a rise by chance, of models that read alike."""
    is_evident: bool
    """Whether it is more than chance, although so many groups were tested."""

    @override
    def __str__(self) -> str:
        """Say it in words."""
        return (
            f"{self.group}: the character error rate rises from {self.against_cer:.1%} to "
            f"{self.cer:.1%} ({self.images} lines, p = {self.p_value:.2g}"
            f"{'' if self.is_evident else ', not enough lines to tell'})"
        )


def find_rises(*groupings: Mapping[str, Pairs]) -> list[Rise]:
    """Return the groups that the first model reads worse, with the evidence for it.

    The level is divided by the number of judged groups (Bonferroni): of models that read alike, at
    most one in twenty has an evident rise.
    """
    judged = [
        (group, pairs)
        for groups in groupings
        for group, pairs in groups.items()
        if len(pairs) >= FEWEST
    ]
    found = []
    for group, pairs in judged:
        cer, against_cer = rates(pairs)
        if cer > against_cer + MARGIN:
            errors = np.array([[each.errors for each in pair] for pair in pairs], np.float64).T
            chance = p_value(
                list(errors),
                lambda one, other, axis: one.sum(axis) - other.sum(axis),
                alternative="greater",
                resamples=RESAMPLES_OF_A_GROUP,
            )
            is_evident = chance < SIGNIFICANT / len(judged)
            found.append(Rise(group, len(pairs), cer, against_cer, chance, is_evident))
    return found


def rates(pairs: Pairs) -> tuple[float, float]:
    """Return the character error rates of both models."""
    length = sum(len(other.reference) for _, other in pairs)
    one, other = (sum(each.errors for each in samples) for samples in zip(*pairs, strict=True))
    return one / length, other / length


def p_value(
    pair: Sequence[Floats],
    statistic: Callable[..., Any],
    *,
    alternative: Literal["two-sided", "greater"] = "two-sided",
    resamples: int = RESAMPLES,
) -> float:
    """Return the probability of such a difference by chance."""
    found = stats.permutation_test(
        tuple(pair),
        statistic,
        permutation_type="samples",
        vectorized=True,
        alternative=alternative,
        n_resamples=resamples,
        batch=batch_of(len(pair[0])),
        rng=np.random.default_rng(SEED),
    )
    return float(found.pvalue)


def batch_of(size: int) -> int:
    """Return how many resamples of this size are computed at once."""
    return max(1, MOST_VALUES // size)
