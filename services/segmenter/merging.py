"""Merge the lines of a page with those of an earlier run: new, kept and gone.

What a person drew or replaced stays so, whatever a run finds
(docs/decisions/0049-people-cut-lines-again.md).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from services.common.domain.keys import line_key
from services.common.domain.overlap import (
    SAME,
    are_alike,
    area,
    common_area,
    iou,
    is_same_place,
    is_same_text,
)
from services.common.domain.page import Line, Mark, Quad, Turn, line_id
from services.common.domain.page_document import Run
from services.common.domain.page_request import turned_quad
from services.segmenter.detection import DetectedLine
from services.segmenter.reading_order import reading_order

RELATED = 0.3
"""Minimum overlap, as a share of the smaller quad, for one line to replace another."""
REPLACED = 0.7
"""Minimum intersection over union with a line that a person replaced: half of it is another one."""
SMALL = 0.4
"""Minimum height of a line, as a share of the page's median."""


@dataclass(frozen=True)
class PageGeometry:
    """Hash and size of a page."""

    sha256: str
    """Of the page."""
    width: int
    height: int
    turn: Turn = 0

    def turned(self, quad: Quad) -> Quad:
        """Return where a quad is on the page as it is read."""
        return turned_quad(quad, self.turn, self.width, self.height)


@dataclass(frozen=True)
class Merged:
    """The lines of a page after a run."""

    lines: tuple[Line, ...]
    new: tuple[Line, ...]
    """Lines whose image is not stored yet."""
    gone: tuple[Line, ...]
    """Lines that do not exist any longer; their images are deleted."""
    kept: int


def merge(
    before: Sequence[Line],
    found: Sequence[DetectedLine],
    place: PageGeometry,
    *,
    run: str,
    judged: Collection[str],
) -> Merged:
    """Decide about each line of a segmented page, besides those that people drew or replaced.

    Args:
        before: Lines of the same bytes.
        found: In reading order.
        place: The page.
        run: ``id`` of the run.
        judged: ``id`` of annotated lines.
    """
    drawn = drawn_lines(before)
    if not drawn:
        return _merge(before, found, place, run=run, judged=judged)
    replaced = [line for line in before if {each.id for each in drawn} & set(line.superseded_by)]
    left = [
        each
        for each in found
        if not any(is_same_text(each.quad, line.quad) for line in drawn)
        and not any(is_same_place(each.quad, line.quad, REPLACED) for line in replaced)
    ]
    others = [line for line in before if line not in drawn and line not in replaced]
    merged = _merge(others, left, place, run=run, judged=judged)
    lines = in_order([*merged.lines, *drawn, *replaced], place)
    names = {line.id for line in merged.new}
    new = tuple(line for line in lines if line.id in names)
    return replace(merged, lines=lines, new=new, kept=merged.kept + len(drawn))


def _merge(
    before: Sequence[Line],
    found: Sequence[DetectedLine],
    place: PageGeometry,
    *,
    run: str,
    judged: Collection[str],
) -> Merged:
    """Decide about each line that only runs have found.

    A line that is found again keeps its image, so its annotation stays valid. Other lines are
    superseded if annotated, and otherwise deleted.
    """
    marks = _marks([place.turned(each.quad) for each in found])
    again = _same(before, found)
    lines, new = [], []
    for order, each in enumerate(found):
        known = again.get(order)
        if known is not None:
            lines.append(known.having(order=order, state="current", superseded_by=()))
            continue
        name = line_id(each.quad, place.width, place.height)
        line = Line(
            id=name,
            key=line_key(place.sha256, name),
            quad=each.quad,
            order=order,
            score=round(each.score, 4),
            run=run,
            state="current",
            marks=marks[order],
        )
        lines.append(line)
        new.append(line)
    kept = {line.id for line in again.values()}
    others = [line for line in before if line.id not in kept | {line.id for line in new}]
    stays = [line for line in others if line.id in judged]
    current = tuple(lines)
    near = _near([line.quad for line in stays], [line.quad for line in current])
    for line, places in zip(stays, near, strict=True):
        touching = [current[at] for at in np.flatnonzero(places)]
        successors = tuple(each.id for each in touching if _shared(line.quad, each.quad) >= RELATED)
        lines.append(line.having(state="superseded", superseded_by=successors))
    gone = tuple(line for line in others if line.id not in judged)
    return Merged(tuple(lines), tuple(new), gone, len(kept))


def in_order(lines: Sequence[Line], place: PageGeometry) -> tuple[Line, ...]:
    """Put the current lines into reading order, and the others behind them."""
    current = [line for line in lines if line.state == "current"]
    order = reading_order([place.turned(line.quad) for line in current])
    others = [line for line in lines if line.state != "current"]
    return (*(current[at].having(order=number) for number, at in enumerate(order)), *others)


def drawn_lines(lines: Sequence[Line]) -> list[Line]:
    """Return the lines that people drew."""
    return [line for line in lines if line.by and line.state == "current"]


def to_run(
    name: str, detector: str, version: str, merged: Merged, ms: float, *, turn: Turn = 0
) -> Run:
    """Describe a run by its results; its time is set when it is stored."""
    current = sum(line.state == "current" for line in merged.lines)
    return Run(
        id=name,
        detector=detector,
        version=version,
        turn=turn,
        found=current,
        kept=merged.kept,
        new=len(merged.new),
        gone=len(merged.gone) + len(merged.lines) - current,
        ms=round(ms, 1),
    )


def _marks(quads: Sequence[Quad]) -> list[tuple[Mark, ...]]:
    """Mark suspicious lines, which are kept and reported."""
    sizes = [_size(quad) for quad in quads]
    usual = median(height for _, height in sizes) if sizes else 0.0
    return [
        (
            *(("small",) if width < usual or height < SMALL * usual else ()),
            *(("tall",) if _stands(quad) else ()),
        )
        for quad, (width, height) in zip(quads, sizes, strict=True)
    ]


def _same(before: Sequence[Line], found: Sequence[DetectedLine]) -> dict[int, Line]:
    """Match found lines to earlier ones, one to one."""
    if not before or not found:
        return {}
    overlaps = np.zeros((len(found), len(before)))
    for row, column in np.argwhere(_near([each.quad for each in found], [x.quad for x in before])):
        one, other = found[row].quad, before[column].quad
        overlaps[row, column] = iou(one, other) if are_alike(one, other) else 0.0
    rows, columns = linear_sum_assignment(-overlaps)
    return {
        int(row): before[column]
        for row, column in zip(rows, columns, strict=True)
        if overlaps[row, column] >= SAME
    }


def _near(ones: Sequence[Quad], others: Sequence[Quad]) -> NDArray[np.bool_]:
    """Return of each pair whether the bounding boxes touch: few do, and areas take long."""
    first, second = (np.reshape(quads, (-1, 4, 2)) for quads in (ones, others))
    starts_before = first.min(axis=1)[:, None] <= second.max(axis=1)[None]
    ends_after = first.max(axis=1)[:, None] >= second.min(axis=1)[None]
    near: NDArray[np.bool_] = (starts_before & ends_after).all(axis=2)
    return near


def _shared(one: Quad, other: Quad) -> float:
    smaller = min(area(one), area(other))
    return common_area(one, other) / smaller if smaller else 0.0


def _size(quad: Quad) -> tuple[float, float]:
    corners = np.reshape(quad, (4, 2))
    width, height = np.hypot(*(corners[1] - corners[0])), np.hypot(*(corners[3] - corners[0]))
    return float(width), float(height)


def _stands(quad: Quad) -> bool:
    x1, y1, x2, y2, *_ = quad
    return abs(y2 - y1) > abs(x2 - x1)
