"""Fit a calibration to scores of texts of which it is known whether they are right."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize_scalar

from app.engines.calibration import EDGE, Curve, Isotonic, Temperature

MethodName = Literal["temperature", "isotonic"]

BINS = 10
"""Of equal width, for the expected calibration error."""
FOLDS = 5
LOG_TEMPERATURES = (-3.0, 3.0)
"""Natural logarithms: from 0.05, nearly a threshold, to 20, nearly always a half."""

Scores = NDArray[np.float64]
Rightness = NDArray[np.float64]
"""1 where the text is right, else 0."""


@dataclass(frozen=True)
class Fit:
    """A curve, and how far scores were from probabilities before and after it."""

    curve: Curve
    ece_before: float
    ece_after: float
    """Each score calibrated by a curve fitted to the other folds: what to expect of new images."""


def fit(method: MethodName, scores: Scores, is_right: Rightness) -> Fit:
    """Fit a curve to scores in [0, 1].

    Args:
        method: A temperature has one parameter, and keeps how scores of 1/2 and up relate; an
            isotonic curve takes any rising form, and needs some hundreds of images for it.
        scores: Of the engine alone.
        is_right: Same length.
    """
    fitted = _FITS[method]
    return Fit(
        curve=fitted(scores, is_right),
        ece_before=expected_calibration_error(scores, is_right),
        ece_after=expected_calibration_error(_held_out(fitted, scores, is_right), is_right),
    )


def expected_calibration_error(scores: Scores, is_right: Rightness) -> float:
    """Return the mean distance between score and share of right texts, over bins of scores.

    Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
    """
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=scores - is_right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(scores))


def _held_out(
    fitted: Callable[[Scores, Rightness], Curve], scores: Scores, is_right: Rightness
) -> Scores:
    """Return each score as a curve that has not seen it gives it back."""
    folds = np.random.default_rng(0).permutation(len(scores)) % FOLDS
    changed = np.empty_like(scores)
    for fold in range(FOLDS):
        is_out = folds == fold
        curve = fitted(scores[~is_out], is_right[~is_out])
        changed[is_out] = [curve(float(score)) for score in scores[is_out]]
    return changed


def _temperature(scores: Scores, is_right: Rightness) -> Temperature:
    """Return the temperature under which what happened is most likely."""
    bounded = np.clip(scores, EDGE, 1 - EDGE)
    # the logit of the probability of what happened: of the score where right, else of the rest
    logits = np.log(bounded / (1 - bounded)) * (2 * is_right - 1)

    def unlikeliness(log_temperature: float) -> float:
        return float(np.logaddexp(0, -logits / np.exp(log_temperature)).mean())

    found = minimize_scalar(unlikeliness, bounds=LOG_TEMPERATURES, method="bounded")
    return Temperature(temperature=float(np.exp(found.x)))


def _isotonic(scores: Scores, is_right: Rightness) -> Isotonic:
    """Return the rising curve next to what happened; never wholly sure: it saw few images."""
    levels, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    shares = np.bincount(places, weights=is_right) / counts
    rising = isotonic_regression(shares, weights=counts).x
    margin = 1 / (len(scores) + 2)
    bounded = np.clip(rising, margin, 1 - margin)
    is_corner = np.ones(len(levels), dtype=bool)
    is_corner[1:-1] = (bounded[1:-1] != bounded[:-2]) | (bounded[1:-1] != bounded[2:])
    return Isotonic(scores=levels[is_corner].tolist(), probabilities=bounded[is_corner].tolist())


_FITS: Mapping[MethodName, Callable[[Scores, Rightness], Curve]] = {
    "temperature": _temperature,
    "isotonic": _isotonic,
}
