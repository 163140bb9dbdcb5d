"""Cut a line out of its page: level, with neither a mask nor a margin.

A recogniser reads such cuts best: a mask cuts into letters, a margin shows the neighbours' ink.
Cut along its baseline a curved line becomes straight, and one that stands on its side lies down.

See docs/decisions/0037-transcribed-pages.md.
"""

from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.common.domain.errors import PermanentError

MAX_SIDE = 16_383
"""Pixels of a WebP image."""
_TOLERANCE = 0.08
"""Share of a line's height by which its baseline may be off the straight one that it is cut by."""
_METHOD, _EFFORT = 0, 20
"""Of lossless WebP: the best take 30 times as long for 9 % of the bytes."""

Place = Sequence[float]
"""``x, y`` of each point, one after the other."""
_Floats = NDArray[np.float64]


class UncuttableLineError(PermanentError):
    """The line's place has no area, or is longer than an image file can be."""

    code = "line_not_cut"


def box_of(polygon: Place, baseline: Place | None = None) -> tuple[float, ...]:
    """Return the smallest box around a polygon: along its baseline, or of the least area.

    Without a baseline the direction of a vertical line is unknown: then its box is rotated by less
    than 45 degrees.

    Returns:
        ``x, y`` of top left, top right, bottom right and bottom left, as the line reads.
    """
    return tuple(_box(_points(polygon), _course(polygon, baseline)).ravel().tolist())


def cut_line(page: Image.Image, polygon: Place, baseline: Place | None = None) -> Image.Image:
    """Return a line of a page, level, in the page's own resolution; same in, same out.

    Args:
        page: Upright.
        polygon: Of the line, or the corners of its box.
        baseline: In the direction in which it reads.

    Raises:
        UncuttableLineError: It has no area, or is too long.
    """
    strips = _strips(_points(polygon), _course(polygon, baseline))
    height = round(_distance(strips[0][0], strips[0][3]))
    edges = [0]
    for top_left, top_right, bottom_right, bottom_left in strips:
        length = _distance(top_left + bottom_left, top_right + bottom_right) / 2
        edges.append(edges[-1] + max(1, round(length)))
    if not 0 < height <= MAX_SIDE or edges[-1] > MAX_SIDE:
        raise UncuttableLineError(f"the line would be {edges[-1]} x {height} pixels")
    mesh = [
        ((left, 0, right, height), tuple(strip[[0, 3, 2, 1]].ravel().tolist()))
        for (left, right), strip in zip(pairwise(edges), strips, strict=True)
    ]
    return page.transform(
        (edges[-1], height),
        Image.Transform.MESH,
        mesh,
        Image.Resampling.BICUBIC,
        fillcolor="white",
    )


def to_webp(line: Image.Image) -> bytes:
    """Return a line as a file, without a loss; the same pixels give the same bytes."""
    file = BytesIO()
    line.save(file, "WEBP", lossless=True, method=_METHOD, quality=_EFFORT)
    return file.getvalue()


def _strips(outline: _Floats, course: _Floats) -> list[_Floats]:
    """Return the boxes that a line is cut in, one for each straight part of its course."""
    whole = _box(outline, course)
    course = _simplified(course, _distance(whole[0], whole[3]) * _TOLERANCE)
    if len(course) == 2:
        return [whole]
    along = np.array([_unit(end - start) for start, end in pairwise(course)])
    downs = np.array([_turned(each) for each in along])
    depths = [_depth(point, course, downs) for point in outline]
    above, below = min(0.0, *depths), max(0.0, *depths)
    course = course.copy()
    course[0] += along[0] * min(0.0, *((outline - course[0]) @ along[0]))
    course[-1] += along[-1] * max(0.0, *((outline - course[-1]) @ along[-1]))
    corners = [_unit(one + two) for one, two in pairwise(downs)]
    normals = np.array([downs[0], *corners, downs[-1]])
    tops, bottoms = course + normals * above, course + normals * below
    return [
        np.array([tops[at], tops[at + 1], bottoms[at + 1], bottoms[at]])
        for at in range(len(course) - 1)
    ]


def _course(polygon: Place, baseline: Place | None) -> _Floats:
    """Return the points that a line reads along: those of its baseline, or the ends of its box.

    Right to left it reads only where it is upside down: some people draw baselines backwards.
    """
    outline = _points(polygon)
    points = _points(baseline or ())
    points = points[[True, *np.any(np.diff(points, axis=0), axis=1)]] if len(points) else points
    if len(points) < 2 or not np.any(points[-1] - points[0]):
        hull = _hull(outline)
        ends = [np.array([start, start + _upright(end - start)]) for start, end in pairwise(hull)]
        return min(ends, key=lambda each: _area(_box(outline, each)))
    is_backwards = points[-1][0] < points[0][0]
    depths = (outline - points[0]) @ _turned(_unit(points[-1] - points[0]))
    return points[::-1] if is_backwards and depths.max() > -depths.min() else points


def _box(outline: _Floats, course: _Floats) -> _Floats:
    """Return the corners of the box around an outline whose top is parallel to a course."""
    along = _unit(course[-1] - course[0])
    down = _turned(along)
    right, depth = outline @ along, outline @ down
    return np.array(
        [
            along * side + down * level
            for side, level in (
                (right.min(), depth.min()),
                (right.max(), depth.min()),
                (right.max(), depth.max()),
                (right.min(), depth.max()),
            )
        ]
    )


def _hull(outline: _Floats) -> list[_Floats]:
    """Return the convex hull, whose last point is its first (Andrew's monotone chain)."""
    ordered = np.unique(outline, axis=0)
    halves: list[list[_Floats]] = []
    for points in (ordered, ordered[::-1]):
        half: list[_Floats] = []
        for point in points:
            while len(half) > 1 and _cross(half[-1] - half[-2], point - half[-1]) <= 0:
                half.pop()
            half.append(point)
        halves.append(half)
    return [*halves[0], *halves[1][1:]]


def _simplified(course: _Floats, tolerance: float) -> _Floats:
    """Return the fewest points that stay near a course (Ramer, Douglas and Peucker)."""
    kept, parts = [0], [(0, len(course) - 1)]
    while parts:
        first, last = parts.pop()
        start, end = course[first], course[last]
        down = _turned(_unit(end - start)) if np.any(end - start) else np.zeros(2)
        off = np.abs((course[first : last + 1] - start) @ down)
        at = first + int(off.argmax())
        if first < at < last and off[at - first] > tolerance:
            parts += [(at, last), (first, at)]
        else:
            kept.append(last)
    return course[kept]


def _depth(point: _Floats, course: _Floats, downs: _Floats) -> float:
    """Return how far a point is below a course; negative: above it."""
    nearest, depth = np.inf, 0.0
    for (start, end), down in zip(pairwise(course), downs, strict=True):
        span = end - start
        share = min(1.0, max(0.0, float((point - start) @ span / (span @ span))))
        away = _distance(point, start + span * share)
        if away < nearest:
            nearest, depth = away, float((point - start) @ down)
    return depth


def _upright(direction: _Floats) -> _Floats:
    """Return a direction that reads left to right, or one square to it that is nearer to that."""
    across, down = direction
    if abs(across) < abs(down):
        across, down = down, -across
    return np.array([across, down]) * (1 if across > 0 else -1)


def _points(place: Place) -> _Floats:
    return np.array(place, np.float64).reshape(-1, 2)


def _unit(direction: _Floats) -> _Floats:
    return direction / (np.hypot(*direction) or 1.0)


def _turned(direction: _Floats) -> _Floats:
    """Return what is down from a direction along a line."""
    return np.array([-direction[1], direction[0]])


def _cross(one: _Floats, two: _Floats) -> float:
    return float(one[0] * two[1] - one[1] * two[0])


def _distance(one: _Floats, two: _Floats) -> float:
    return float(np.hypot(*(two - one)))


def _area(box: _Floats) -> float:
    return _distance(box[0], box[1]) * _distance(box[1], box[2])
