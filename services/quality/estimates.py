"""Shares and rates with their 95 % intervals, from counts alone."""

from dataclasses import dataclass
from math import hypot, sqrt
from typing import NamedTuple

from typing_extensions import override

DEVIATIONS = 1.959964
"""Standard deviations on each side of the mean that 95 % of a normal distribution lie within."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval (from two images)."""

    value: float
    low: float | None = None
    high: float | None = None

    @override
    def __str__(self) -> str:
        """Return the share with its interval, as percentages."""
        if self.low is None or self.high is None:
            return f"{self.value:.2%}"
        return f"{self.value:.2%} ({self.low:.2%} to {self.high:.2%})"

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval is known and all on one side of zero."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


class Sums(NamedTuple):
    """Sums over images of two of their values."""

    images: int
    over: float
    under: float
    over_squares: float
    under_squares: float
    products: float

    def ratio(self) -> Estimate | None:
        """Return the ratio estimate (Cochran, *Sampling Techniques*, 1977, chapter 6)."""
        if not self.under:
            return None
        value = self.over / self.under
        if self.images < 2:
            return Estimate(value)
        squares = self.over_squares - 2 * value * self.products + value**2 * self.under_squares
        # Rounding may leave a little less than nothing
        variance = max(0.0, squares) * self.images / (self.images - 1)
        half = DEVIATIONS * sqrt(variance) / self.under
        return Estimate(value, max(0.0, value - half), value + half)


def share(count: int, total: int) -> Estimate | None:
    """Return a share with Wilson's interval (1927), which holds for shares near 0 and 1, too."""
    if not total:
        return None
    value, square = count / total, DEVIATIONS**2
    middle = (count + square / 2) / (total + square)
    spread = sqrt(value * (1 - value) * total + square / 4)
    half = DEVIATIONS * spread / (total + square)
    return Estimate(value, max(0.0, middle - half), min(1.0, middle + half))


def difference(one: Estimate, other: Estimate) -> Estimate:
    """Return ``one`` less ``other``, of different images (Zou and Donner, 2008)."""
    value = one.value - other.value
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Estimate(value)
    return Estimate(
        value,
        value - hypot(one.value - one.low, other.high - other.value),
        value + hypot(one.high - one.value, other.value - other.low),
    )
