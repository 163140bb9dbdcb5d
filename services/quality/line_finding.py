"""Measure how well lines are found on pages, against lines whose places and texts are known.

* recall, precision: at IoU 0.5, one to one, of the found quad against the known polygon;
* covered: known baselines of which at least 80 % lie within one found line, raised by a quarter of
  the line's height into the ink; split: only within several together;
* merged: known lines that share a found line which covers half of each;
* usable: known lines of which a found line covers 80 %, and of no other line, at IoU 0.3 or more:
  what a person could annotate as it is;
* order: of known lines that follow each other, the share that does so in the order of what was
  found of them;
* error rates of characters: of what is read in the found lines along each known one, of which a
  missed one counts whole, and of what is read in the known lines themselves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import linear_sum_assignment
from shapely import LineString, Point, Polygon, intersection, make_valid, union_all

from services.common.domain.accuracy import hypothesis_of
from services.common.domain.annotations import collapse
from services.common.domain.line_images import (
    Place,
    UncuttableLineError,
    box_of,
    cut_line,
    to_webp,
)
from services.common.domain.page import Quad

COVERED, HALF, SAME, RELATED = 0.8, 0.5, 0.5, 0.3

ReadLine = Callable[[bytes], str]
"""Reads the image of a line."""
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class KnownLine:
    """A line as its transcription gives it."""

    polygon: Place
    baseline: Place | None
    text: str | None
    area: Polygon
    ink: LineString
    """Its baseline, raised into the ink."""

    @classmethod
    def of(cls, polygon: Place, baseline: Place | None, text: str | None) -> Self | None:
        """Return a line; None: it has no area."""
        if len(polygon) < 6 or not (area := make_valid(Polygon(_points(polygon)))).area:
            return None
        return cls(polygon, baseline, text and collapse(text), area, _ink(area, polygon, baseline))


@dataclass
class Finding:
    """Counts of known and found lines, of one page or several."""

    pages: int = 0
    known: int = 0
    found: int = 0
    same: int = 0
    covered: int = 0
    covered_by_any: int = 0
    merged: int = 0
    usable: int = 0
    pairs: int = 0
    pairs_in_order: int = 0
    characters: int = 0
    """Of the texts of known lines, where lines are read."""
    errors: int = 0
    """In the found lines."""
    errors_of_known: int = 0

    def add(self, other: "Finding") -> None:
        """Add the counts of another page."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def figures(self) -> dict[str, float | None]:
        """Return counts and shares by name; None: unknown."""

        def share(part: int, whole: int) -> float | None:
            return part / whole if whole else None

        return {
            "lines": self.known,
            "found": self.found,
            "recall": share(self.same, self.known),
            "precision": share(self.same, self.found),
            "covered": share(self.covered, self.known),
            "split": share(self.covered_by_any - self.covered, self.known),
            "merged": share(self.merged, self.known),
            "usable": share(self.usable, self.known),
            "order": share(self.pairs_in_order, self.pairs),
            "CER": share(self.errors, self.characters),
            "CER of known lines": share(self.errors_of_known, self.characters),
        }


def compare_lines(known: Sequence[KnownLine], quads: Sequence[Quad]) -> Finding:
    """Count how the lines found on a page fit the known ones; both in reading order."""
    finding = Finding(pages=1, known=len(known), found=len(quads))
    if not known or not quads:
        return finding
    found = [Polygon(_points(quad)) for quad in quads]
    overlaps = np.array([[_iou(line.area, each) for each in found] for line in known])
    covers = _covers(known, found)
    rows, columns = linear_sum_assignment(-overlaps)
    finding.same = int((overlaps[rows, columns] >= SAME).sum())
    finding.covered = int((covers.max(axis=1) >= COVERED).sum())
    everything = union_all([each.buffer(0) for each in found])
    finding.covered_by_any = sum(_covered(line.ink, everything) >= COVERED for line in known)
    lines_of_found = (covers >= HALF).sum(axis=0)
    finding.merged = int(((covers >= HALF) & (lines_of_found > 1)).any(axis=1).sum())
    alone = (covers >= COVERED) & (lines_of_found == 1) & (overlaps >= RELATED)
    finding.usable = int(alone.any(axis=1).sum())
    places = [int(row.argmax()) if row.max() >= HALF else None for row in covers]
    pairs = [(a, b) for a, b in pairwise(places) if a != b and a is not None and b is not None]
    met = sorted({place for place in places if place is not None})
    rank = {place: at for at, place in enumerate(met)}
    finding.pairs = len(pairs)
    finding.pairs_in_order = sum(rank[b] - rank[a] == 1 for a, b in pairs)
    return finding


def read_both(
    finding: Finding,
    page: Image.Image,
    known: Sequence[KnownLine],
    quads: Sequence[Quad],
    read: ReadLine,
) -> None:
    """Read known and found lines of a page, and count the errors of both."""

    def text_of(place: Place, baseline: Place | None) -> str:
        try:
            return read(to_webp(cut_line(page, place, baseline)))
        except UncuttableLineError:
            return ""

    for line, along in zip(known, found_along(known, quads), strict=True):
        if not line.text:
            continue
        read_in_found = " ".join(text_of(quads[at], _lower_side(quads[at])) for at in along)
        read_in_known = text_of(line.polygon, line.baseline)
        finding.characters += len(line.text)
        finding.errors += hypothesis_of(read_in_found, reference=line.text).errors
        finding.errors_of_known += hypothesis_of(read_in_known, reference=line.text).errors


def found_along(known: Sequence[KnownLine], quads: Sequence[Quad]) -> list[list[int]]:
    """Return which found lines belong to each known one, along its baseline.

    A found line belongs to the known one of whose baseline most is within it, if that is half of
    the baseline, or of the found line's length.
    """
    belonging: list[list[tuple[float, int]]] = [[] for _ in known]
    found = [Polygon(_points(quad)) for quad in quads]
    covers = _covers(known, found) if known and quads else np.zeros((0, 0))
    lengths = np.array([line.ink.length for line in known])
    for at, quad in enumerate(quads if known else ()):
        within = covers[:, at] * lengths
        line = int(within.argmax())
        x1, y1, x2, y2, *_ = quad
        if within[line] >= HALF * min(lengths[line], max(1.0, float(np.hypot(x2 - x1, y2 - y1)))):
            middle = Point(*_points(quad).mean(axis=0))
            belonging[line].append((known[line].ink.project(middle), at))
    return [[at for _, at in sorted(each)] for each in belonging]


def _ink(area: Polygon, polygon: Place, baseline: Place | None) -> LineString:
    """Return a baseline, moved by a quarter of the line's height to the left of its direction.

    Without a baseline it is the middle of the smallest box.
    """
    if baseline is None or len(baseline) < 4:
        top_left, top_right, bottom_right, bottom_left = _points(box_of(polygon))
        return LineString([(top_left + bottom_left) / 2, (top_right + bottom_right) / 2])
    points = _points(baseline)
    along = points[-1] - points[0]
    length = float(np.hypot(*along)) or 1.0
    upward = np.array([along[1], -along[0]]) / length
    return LineString(points + upward * (area.area / length) / 4)


def _lower_side(quad: Quad) -> Place:
    *_, right, right_y, left, left_y = quad
    return left, left_y, right, right_y


def _covers(known: Sequence[KnownLine], found: Sequence[Polygon]) -> _Floats:
    """Return the share of each known baseline that is within each found line."""
    return np.array([[_covered(line.ink, each) for each in found] for line in known])


def _points(place: Place) -> _Floats:
    return np.array(place, np.float64).reshape(-1, 2)


def _iou(one: Polygon, other: Polygon) -> float:
    common = intersection(one, other).area
    return float(common / (one.area + other.area - common)) if common else 0.0


def _covered(baseline: LineString, area: Polygon) -> float:
    return float(intersection(baseline, area).length / max(baseline.length, 1.0))
