"""Requests of people to the segmenter: cut a line again, or turn a page.

A request travels in the body of a synthetic notification of its page, which names the bytes that
the person saw. What reads notifications (parked messages, erasure, the reconciler) reads it as one.

See docs/decisions/0049-people-cut-lines-again.md.
"""

import json
from collections.abc import Sequence
from typing import Annotated, NamedTuple

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
)

from services.common.domain.errors import InvalidEventError
from services.common.domain.line_images import UncuttableLineError, box_of
from services.common.domain.overlap import is_same_place, is_same_text
from services.common.domain.page import Line, Points, Quad, Turn
from services.common.domain.records import first_problem, to_milliseconds

LEAST_SIDE = 4
"""Pixels of a line's shorter side."""
_MEMBER = "request"
"""Of the notification's body."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


Moment = Annotated[AwareDatetime, AfterValidator(to_milliseconds)]


class Cut(_Model):
    """A line that a person drew."""

    quad: Quad
    line: str | None = None
    """``id`` of the line that it replaces; None: one that was not found."""
    by: str = Field(min_length=1)
    at: Moment


class PageRequest(_Model):
    """Request of a person for a page: one of both."""

    cut: Cut | None = None
    turn: Turn | None = None
    at: Moment | None = None
    """When the person asked for the turn; earlier versions did not say it."""

    def within(self, notification: bytes) -> bytes:
        """Return the body of a notification with this request."""
        said = self.model_dump(mode="json", exclude_none=True)
        return json.dumps({**json.loads(notification), _MEMBER: said}).encode()


class Conflict(NamedTuple):
    """Reason for which a request to cut a line has no effect."""

    is_taken: bool = False
    """There is a line in just this place; otherwise the page has changed."""
    by: str | None = None
    """Another person, who cut the line before."""


def replaced_lines(lines: Sequence[Line], cut: Cut, name: str) -> Conflict | list[Line]:
    """Decide about a line that a person drew: which current lines it replaces, or why none.

    Of the requests of one person the last counts, in whichever order and however often they
    arrive; of two people the first.

    Args:
        lines: Of the page.
        cut: The request.
        name: ``id`` of the new line. If this request drew it already, it replaces nothing. A later
            one can't draw the same line: its image is stored under this name.
    """
    current = [line for line in lines if line.state == "current"]
    known = next((line for line in lines if line.id == name), None)
    is_drawn = known is not None and known.is_drawn_by(cut.by, cut.at)
    if known is not None and known.state == "current":
        return [] if is_drawn else Conflict(is_taken=True)
    if is_drawn:
        return Conflict()  # delivered again: what it drew was replaced since
    rivals = _rivals(current, cut)
    if rivals is None:
        return Conflict()
    for line in rivals:
        if line.by != cut.by or line.at is None or line.at >= cut.at:
            other = None if line.by == cut.by else line.by
            return Conflict(is_taken=cut.line is None, by=other)
    return [
        line
        for line in current
        if line.id == cut.line
        or line in rivals
        or (not line.by and is_same_text(line.quad, cut.quad))
    ]


def _rivals(current: Sequence[Line], cut: Cut) -> list[Line] | None:
    """Return lines that people drew meanwhile in place of the cut's; None: it is of no line."""
    if cut.line is None:
        return [line for line in current if line.by and is_same_place(cut.quad, line.quad)]
    if cut.line in {line.id for line in current}:
        return []
    return [line for line in current if cut.line in line.replaces] or None


class _Body(_Model):
    request: PageRequest | None = None


def parse_request(body: bytes) -> PageRequest | None:
    """Parse the request within a notification, or return None.

    Raises:
        InvalidEventError: It is invalid.
    """
    try:
        return _Body.model_validate_json(body).request
    except ValidationError as error:
        raise InvalidEventError(f"request: {first_problem(error, whole='body')}") from error


def drawn_quad(points: list[int], width: int, height: int) -> Quad:
    """Return the box of four drawn corners: what is cut, within the page.

    Args:
        points: ``x, y`` of top left, top right, bottom right, bottom left, as the line reads.
        width: Of the page.
        height: Of the page.

    Raises:
        UncuttableLineError: There are not four corners, or the box is too small.
    """
    if len(points) != 8:
        raise UncuttableLineError("a box has four corners")
    edges = (width - 1, height - 1)
    inside = [min(max(0, value), edges[at % 2]) for at, value in enumerate(points)]
    *_, right, right_y, left, left_y = inside
    if (left, left_y) == (right, right_y):
        raise UncuttableLineError("the box has no lower side")
    x1, y1, x2, y2, x3, y3, x4, y4 = map(round, box_of(inside, (left, left_y, right, right_y)))
    if min(abs(x2 - x1) + abs(y2 - y1), abs(x4 - x1) + abs(y4 - y1)) < LEAST_SIDE:
        raise UncuttableLineError(f"the box is smaller than {LEAST_SIDE} pixels")
    return x1, y1, x2, y2, x3, y3, x4, y4


def turned_points(points: Sequence[int], turn: Turn, width: int, height: int) -> Points:
    """Return where points are once the page around them, of this size, is turned clockwise."""
    pairs = zip(points[::2], points[1::2], strict=True)
    match turn:
        case 0:
            return tuple(points)
        case 90:
            turned = [(height - y, x) for x, y in pairs]
        case 180:
            turned = [(width - x, height - y) for x, y in pairs]
        case _:
            turned = [(y, width - x) for x, y in pairs]
    return tuple(each for pair in turned for each in pair)


def turned_quad(quad: Quad, turn: Turn, width: int, height: int) -> Quad:
    """Return where a quad is once the page around it is turned; see ``turned_points``."""
    x1, y1, x2, y2, x3, y3, x4, y4 = turned_points(quad, turn, width, height)
    return x1, y1, x2, y2, x3, y3, x4, y4


def turned_size(turn: Turn, width: int, height: int) -> tuple[int, int]:
    """Return width and height of a page that is turned."""
    return (height, width) if turn in {90, 270} else (width, height)
