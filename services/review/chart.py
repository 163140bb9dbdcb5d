"""Points of the charts of scores and error rates: pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.quality.estimates import Estimate
from services.quality.reliability import Reliability
from services.quality.tally import Tally

WIDTH, HEIGHT = 100.0, 50.0
"""Of the drawing, which is stretched to its place."""
Steps = Sequence[tuple[datetime, Tally]]
SIDE = 100.0
"""Of the drawing of a reliability diagram."""


@dataclass(frozen=True)
class ChartLine:
    """A line of the chart."""

    name: str
    """Its class in the style sheet."""
    path: str
    """Of an SVG."""
    dots: Sequence[tuple[str, datetime, float]]
    """Path, time and value of each point."""


@dataclass(frozen=True)
class Dot:
    """Images of a band of scores in a reliability diagram."""

    along: float
    up: float
    interval: str
    """Path of an SVG."""
    tally: Tally


def dots(reliability: Reliability) -> list[Dot]:
    """Return the mean score of each band against the share that was read without an error."""
    return [_dot(each) for each in reliability.bands.values()]


def lines(steps: Steps) -> list[ChartLine]:
    """Return the lines of mean score and error rate, without the steps where they are unknown."""
    return [
        _line("mean-score", steps, lambda tally: tally.mean),
        _line("error-rate", steps, lambda tally: tally.error_rate),
    ]


def height_of(value: float) -> float:
    """Return where a share is; more than 1 is shown as 1."""
    return HEIGHT * (1 - min(1.0, max(0.0, value)))


def _dot(tally: Tally) -> Dot:
    along, exact = SIDE * (tally.mean or 0.0), tally.exact_estimate or Estimate(0.0)
    low, high = (SIDE * (1 - (each or 0.0)) for each in (exact.low, exact.high))
    path = f"M{along:.2f} {low:.2f}V{high:.2f}"
    return Dot(round(along, 2), round(SIDE * (1 - exact.value), 2), path, tally)


def _line(name: str, steps: Steps, value: Callable[[Tally], float | None]) -> ChartLine:
    known = [(at, each) for at, tally in steps if (each := value(tally)) is not None]
    begin, end = (steps[0][0], steps[-1][0]) if steps else (None, None)
    dots = []
    for at, each in known:
        span = (end - begin) if begin and end else None
        along = (at - begin) / span if begin and span else 0.5
        dots.append((f"{WIDTH * along:.2f} {height_of(each):.2f}", at, each))
    path = "M" + "L".join(point for point, _, _ in dots) if dots else ""
    return ChartLine(name, path, [(f"M{point}h0", at, each) for point, at, each in dots])
