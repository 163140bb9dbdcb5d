"""Fit a calibration to scores of texts that are known to be right or wrong."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize, minimize_scalar

from app.engines.calibration import EDGE, Curve, Isotonic, Length, Platt, Temperature

MethodName = Literal["temperature", "platt", "length", "isotonic"]
LINES: tuple[MethodName, ...] = ("temperature", "platt", "length")
"""Few parameters, and an inverse: from a calibrated score the model's own follows."""
METHODS: tuple[MethodName, ...] = (*LINES, "isotonic")

BINS = 10
"""Of equal width, for the expected calibration error."""
FOLDS = 5
FEWEST_FOR_ISOTONIC = 300
"""Minimum of samples for a free-form curve."""
LOG_TEMPERATURES = (-3.0, 3.0)
"""Bounds of the log temperature: 0.05 (nearly a threshold) to 20 (nearly always 0.5)."""
SLOPES = (1e-3, 50.0)
INTERCEPTS = (-50.0, 50.0)
POWERS = (0.0, 50.0)
"""0: the length does not matter."""
_NEAR = 1e-2
"""An optimiser stops just before its bounds."""

Scores = NDArray[np.float64]
Rightness = NDArray[np.float64]
"""1 for a right text, 0 otherwise; or the share of right characters."""
Lengths = NDArray[np.int_]
"""Numbers of characters read."""
_Method = Callable[[Scores, Rightness, Lengths], Curve]


@dataclass(frozen=True)
class Fit:
    """A curve, and the calibration error before and after it."""

    curve: Curve
    held_out: Scores
    """Cross-validated scores, each by a curve fitted to the other folds."""
    ece_before: float
    ece_after: float
    """Expected calibration error, of ``held_out``."""
    brier_before: float
    brier_after: float
    """Brier score of ``held_out``; lower is better."""
    is_at_bound: bool
    """Whether the fit ended at a bound: the curve has the wrong form for these scores."""

    @property
    def is_better(self) -> bool:
        """Whether held-out scores are better than before."""
        return self.brier_after < self.brier_before


def fit(
    method: MethodName,
    scores: Scores,
    is_right: Rightness,
    lengths: Lengths | None = None,
    *,
    groups: Sequence[str] | None = None,
) -> Fit:
    """Fit a curve to scores in [0, 1].

    Args:
        method: ``temperature`` has one parameter, and keeps how scores of 1/2 and up relate;
            ``platt`` has a second one that shifts them; ``length`` a third one, by which long texts
            are less probable; ``isotonic`` takes any rising form, and needs some hundreds of images
            for it.
        scores: Of the engine alone.
        is_right: Same length.
        lengths: The same; None: texts of one length.
        groups: Sources (hands, books, web sites) of the texts: held-out ones are of others. None,
            fewer than ``FOLDS``, or one with more than half of the texts: any texts are held out.
    """
    lengths = np.ones(len(scores), dtype=int) if lengths is None else lengths
    fitted = _FITS[method]
    curve = fitted(scores, is_right, lengths)
    folds = _folds(groups or [], len(scores))
    held_out = _held_out(fitted, scores, is_right, lengths, folds)
    return Fit(
        curve=curve,
        held_out=held_out,
        ece_before=expected_calibration_error(scores, is_right),
        ece_after=expected_calibration_error(held_out, is_right),
        brier_before=_brier(scores, is_right),
        brier_after=_brier(held_out, is_right),
        is_at_bound=_is_at_bound(curve),
    )


def fit_best(
    scores: Scores,
    is_right: Rightness,
    lengths: Lengths | None = None,
    *,
    methods: Sequence[MethodName] = METHODS,
    groups: Sequence[str] | None = None,
) -> Fit:
    """Fit a curve by each method, and return the best one on held-out samples.

    By the Brier score, a proper scoring rule (Gneiting and Raftery, JASA 2007); a fit at a bound
    counts only if all others are at one, too.
    """
    enough = len(scores) >= FEWEST_FOR_ISOTONIC
    fits = [
        fit(method, scores, is_right, lengths, groups=groups)
        for method in methods
        if (enough or method != "isotonic") and not (lengths is None and method == "length")
    ]
    return min(fits, key=lambda each: (each.is_at_bound, each.brier_after))


@dataclass(frozen=True)
class Bin:
    """Samples with scores in a range."""

    low: float
    high: float
    n: int
    calibrated: float
    """Mean of the cross-validated scores."""
    right: float
    """Share of right texts."""


def bins_of(scores: Scores, is_right: Rightness, fitted: Fit) -> Sequence[Bin]:
    """Return the calibrated scores and share of right texts by range of scores."""
    places = _bin_places(scores)
    return [
        Bin(
            place / BINS,
            (place + 1) / BINS,
            int(is_in.sum()),
            float(fitted.held_out[is_in].mean()),
            float(is_right[is_in].mean()),
        )
        for place in range(BINS)
        if (is_in := places == place).any()
    ]


def expected_calibration_error(scores: Scores, is_right: Rightness) -> float:
    """Return the mean distance between score and share of right texts, over bins of scores.

    Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
    """
    gaps = np.bincount(_bin_places(scores), weights=scores - is_right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(scores))


def _bin_places(scores: Scores) -> NDArray[np.int_]:
    places: NDArray[np.int_] = np.minimum((scores * BINS).astype(int), BINS - 1)
    return places


def _brier(scores: Scores, is_right: Rightness) -> float:
    return float(((scores - is_right) ** 2).mean())


def _is_at_bound(curve: Curve) -> bool:
    match curve:
        case Temperature(temperature=temperature):
            return _is_near(np.log(temperature), LOG_TEMPERATURES)
        case Platt(slope=slope, intercept=intercept):
            return _is_near(slope, SLOPES) or _is_near(intercept, INTERCEPTS)
        case Length(slope=slope, intercept=intercept, power=power):
            is_high = power > POWERS[1] - _NEAR
            return _is_near(slope, SLOPES) or _is_near(intercept, INTERCEPTS) or is_high
        case Isotonic():
            return False


def _is_near(value: float, bounds: tuple[float, float]) -> bool:
    low, high = bounds
    return bool(value - low < _NEAR or high - value < _NEAR)


def _folds(groups: Sequence[str], count: int) -> NDArray[np.int_]:
    """Return the fold of each sample: a whole group in one, all folds of like size."""
    random, sizes = np.random.default_rng(0), Counter(groups)
    if len(sizes) < FOLDS or max(sizes.values()) > count / 2:
        return random.permutation(count) % FOLDS
    names, filled, fold_of = sorted(sizes), np.zeros(FOLDS), dict[str, int]()
    for number in random.permutation(len(names)):
        fold_of[names[number]] = fold = int(filled.argmin())
        filled[fold] += sizes[names[number]]
    return np.array([fold_of[name] for name in groups])


def _held_out(
    fitted: _Method,
    scores: Scores,
    is_right: Rightness,
    lengths: Lengths,
    folds: NDArray[np.int_],
) -> Scores:
    """Return the cross-validated scores."""
    changed = np.empty_like(scores)
    for fold in range(FOLDS):
        is_out = folds == fold
        curve = fitted(scores[~is_out], is_right[~is_out], lengths[~is_out])
        changed[is_out] = applied(curve, scores[is_out], lengths[is_out])
    return changed


def applied(curve: Curve, scores: Scores, lengths: Lengths) -> Scores:
    """Return calibrated scores."""
    pairs = zip(scores.tolist(), lengths.tolist(), strict=True)
    return np.array([curve(score, length) for score, length in pairs])


def _temperature(scores: Scores, is_right: Rightness, _: Lengths) -> Temperature:
    """Return the maximum-likelihood temperature."""
    bounded = np.clip(scores, EDGE, 1 - EDGE)
    # the logit of the outcome's probability: the score if right, its complement otherwise
    logits = np.log(bounded / (1 - bounded)) * (2 * is_right - 1)

    def unlikeliness(log_temperature: float) -> float:
        return float(np.logaddexp(0, -logits / np.exp(log_temperature)).mean())

    found = minimize_scalar(unlikeliness, bounds=LOG_TEMPERATURES, method="bounded")
    return Temperature(temperature=float(np.exp(found.x)))


def _platt(scores: Scores, is_right: Rightness, _: Lengths) -> Platt:
    slope, intercept = _line(scores, is_right)
    return Platt(slope=slope, intercept=intercept)


def _length(scores: Scores, is_right: Rightness, lengths: Lengths) -> Length:
    slope, intercept, power = _line(scores, is_right, lengths)
    return Length(slope=slope, intercept=intercept, power=power)


def _line(scores: Scores, is_right: Rightness, lengths: Lengths | None = None) -> tuple[float, ...]:
    """Return the maximum-likelihood parameters of ``Platt``, or with lengths of ``Length``.

    Targets are smoothed (Platt 1999, 2.2), so that samples that are all right or all wrong have a
    line, too.
    """
    bounded = np.clip(scores, EDGE, 1 - EDGE)
    terms, bounds = [np.log(bounded / (1 - bounded)), np.ones(len(scores))], [SLOPES, INTERCEPTS]
    if lengths is not None:
        terms, bounds = [*terms, lengths * np.log(bounded)], [*bounds, POWERS]
    right = is_right.sum()
    highest, lowest = (right + 1) / (right + 2), 1 / (len(scores) - right + 2)
    targets = lowest + is_right * (highest - lowest)

    def unlikeliness(parameters: NDArray[np.float64]) -> float:
        line = parameters @ np.array(terms)
        return float((np.logaddexp(0, line) - targets * line).mean())

    start = np.eye(len(terms))[0]
    return tuple(minimize(unlikeliness, x0=start, bounds=bounds, method="L-BFGS-B").x.tolist())


def fit_accuracy(scores: Scores, accuracies: Scores) -> Platt:
    """Fit a line to shares of right characters (Papke and Wooldridge, J. Appl. Econometrics 1996).

    Args:
        scores: Of the engine alone.
        accuracies: Same length, see ``accuracy``.
    """
    slope, intercept = _line(scores, accuracies)
    return Platt(slope=slope, intercept=intercept)


def _isotonic(scores: Scores, is_right: Rightness, _: Lengths) -> Isotonic:
    """Return the isotonic fit, kept away from 0 and 1, as there are few images."""
    levels, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    shares = np.bincount(places, weights=is_right) / counts
    rising = isotonic_regression(shares, weights=counts).x
    margin = 1 / (len(scores) + 2)
    bounded = np.clip(rising, margin, 1 - margin)
    is_corner = np.ones(len(levels), dtype=bool)
    is_corner[1:-1] = (bounded[1:-1] != bounded[:-2]) | (bounded[1:-1] != bounded[2:])
    return Isotonic(scores=levels[is_corner].tolist(), probabilities=bounded[is_corner].tolist())


_FITS: Mapping[MethodName, _Method] = {
    "temperature": _temperature,
    "platt": _platt,
    "length": _length,
    "isotonic": _isotonic,
}
