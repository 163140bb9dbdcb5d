"""Requests of people to the segmenter: cut a line again, or turn a page.

A request travels in the body of a synthetic notification of its page, which names the bytes that
the person saw. What reads notifications (parked messages, erasure, the reconciler) reads it as one.

See docs/decisions/0049-people-cut-lines-again.md.
"""

import json
from collections.abc import Sequence

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from services.common.domain.errors import InvalidEventError
from services.common.domain.line_images import UncuttableLineError, box_of
from services.common.domain.page import Points, Quad, Turn

LEAST_SIDE = 4
"""Pixels of a line's shorter side."""
_MEMBER = "request"
"""Of the notification's body."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Cut(_Model):
    """A line that a person drew."""

    quad: Quad
    line: str | None = None
    """``id`` of the line that it replaces; None: one that was not found."""
    by: str = Field(min_length=1)
    at: AwareDatetime


class PageRequest(_Model):
    """Request of a person for a page: one of both."""

    cut: Cut | None = None
    turn: Turn | None = None

    def within(self, notification: bytes) -> bytes:
        """Return the body of a notification with this request."""
        said = self.model_dump(mode="json", exclude_none=True)
        return json.dumps({**json.loads(notification), _MEMBER: said}).encode()


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
        problem = error.errors(include_input=False, include_url=False)[0]
        raise InvalidEventError(f"request: {problem['loc']}: {problem['msg']}") from error


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
