"""Join the pieces of a line that a detector found apart, as happens between written words."""

from math import radians, tan
from typing import NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

LONGEST_GAP = 0.5
"""Between two pieces, in heights of the higher one; a longer one is of a table or of columns."""
LARGEST_STEP = 0.35
"""From where the one points to and the other begins, up or down, in heights."""
LARGEST_GROWTH = 1.45
"""Of the height: what lies obliquely to each other is no line."""
MOST_PIECES = 3000
"""More are not joined, as that takes quadratic time: a page of so many lines is rejected."""
STEEPEST = 30.0
"""Degrees: of lines that stand on their side nothing is joined."""


class Box(NamedTuple):
    """A rotated rectangle."""

    x: float
    """Of the middle, as ``y``."""
    y: float
    width: float
    """Along the line."""
    height: float
    angle: float
    """Degrees, clockwise."""
    score: float

    @classmethod
    def around(cls, points: NDArray[np.float32], score: float) -> Self:
        """Return the smallest rectangle around points; its width is the more horizontal side."""
        (x, y), (width, height), angle = cv2.minAreaRect(points)
        turns = round(angle / 90)  # OpenCV's angle is of any of the four sides
        if turns % 2:
            width, height = height, width
        return cls(x, y, width, height, angle - 90 * turns, score)

    @property
    def left(self) -> float:
        """Start point."""
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        """End point."""
        return self.x + self.width / 2

    @property
    def corners(self) -> NDArray[np.float32]:
        """The corners, clockwise."""
        rectangle = ((self.x, self.y), (self.width, self.height), self.angle)
        return np.asarray(cv2.boxPoints(rectangle), np.float32)

    def y_at(self, x: float) -> float:
        """Return the height of its middle line at a place."""
        return self.y + tan(radians(self.angle)) * (x - self.x)


def join_pieces(boxes: list[Box]) -> list[Box]:
    """Join boxes that follow each other closely on one line."""
    if len(boxes) > MOST_PIECES:
        return boxes
    waiting = sorted(boxes, key=lambda box: box.left)
    joined = []
    while waiting:
        box = waiting.pop(0)
        while (following := _following(box, waiting)) is not None:
            at, box = following
            del waiting[at]
        joined.append(box)
    return joined


def _following(box: Box, others: list[Box]) -> tuple[int, Box] | None:
    """Return the box that continues another one, and both joined."""
    if box.height > box.width or abs(box.angle) > STEEPEST:
        return None
    for at, other in enumerate(others):
        height = max(box.height, other.height)
        if not -height / 2 < other.left - box.right < LONGEST_GAP * height:
            continue
        if abs(box.y_at(other.left) - other.y_at(other.left)) > LARGEST_STEP * height:
            continue
        both = Box.around(np.vstack([box.corners, other.corners]), max(box.score, other.score))
        if both.height <= LARGEST_GROWTH * height:
            return at, both
    return None
