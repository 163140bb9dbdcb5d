"""Find the margins of a page whose text stands on its side.

On the whole page the detector sees such lines as scattered letters. In the margin alone, turned so
that they lie, it finds them: 8 of the 9 of a page of wills, none of them before.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from services.common.domain.page import Quad

BODY = 0.3
"""Minimum length of a line of the body, as a share of the page's width."""
LEAST_BODY = 5
"""Lines of the body below which a page has no margins."""
EVIDENCE = 4
"""Minimum number of scattered pieces in a margin with text on its side."""
LEAST_WIDTH = 0.03
"""Of a margin, as a share of the page's width."""
LONG = 4.0
"""Minimum ratio of length to height of a line on its side: shorter ones may be anything."""
_SHORT = 2.0
"""Ratio of width to height below which something found is a piece."""

Pixels = NDArray[np.uint8]
_Floats = NDArray[np.float64]


class Margin(NamedTuple):
    """A margin, from left to right in pixels."""

    left: int
    right: int

    def turned(self, page: Pixels) -> Pixels:
        """Return its pixels, turned so that text that reads upwards reads to the right."""
        return np.ascontiguousarray(np.rot90(page[:, self.left : self.right], -1))

    def place(self, quad: Quad, page_height: int) -> Quad:
        """Return where a quad of the turned margin is on the page."""
        x1, y1, x2, y2, x3, y3, x4, y4 = quad
        left, last = self.left, page_height - 1
        return (
            *(left + y1, last - x1, left + y2, last - x2),
            *(left + y3, last - x3, left + y4, last - x4),
        )


def margins(quads: Sequence[Quad], page_width: int) -> list[Margin]:
    """Return the margins that seem to hold text on its side.

    Args:
        quads: Of all that was found on the page.
        page_width: In pixels.
    """
    if not quads:
        return []
    corners = np.reshape(np.array(quads, float), (-1, 4, 2))
    widths, heights = _sizes(corners)
    lows, highs = corners[:, :, 0].min(axis=1), corners[:, :, 0].max(axis=1)
    body = (highs - lows >= BODY * page_width) & (widths > heights)
    if body.sum() < LEAST_BODY:
        return []
    slack = float(np.median(heights[body])) / 2
    left = round(min(page_width, float(np.median(lows[body])) + slack))
    right = round(max(0.0, float(np.median(highs[body])) - slack))
    centres = corners[:, :, 0].mean(axis=1)
    is_piece = widths < _SHORT * heights
    return [
        margin
        for margin in (Margin(0, left), Margin(right, page_width))
        if margin.right - margin.left >= LEAST_WIDTH * page_width
        and (is_piece & (margin.left <= centres) & (centres < margin.right)).sum() >= EVIDENCE
    ]


def is_long(quad: Quad) -> bool:
    """Return whether something found in a turned margin is a line for sure."""
    (x1, y1), (x2, y2), *_ = np.reshape(quad, (4, 2))
    widths, heights = _sizes(np.array(quad, float).reshape(1, 4, 2))
    return bool(abs(x2 - x1) > abs(y2 - y1) and widths[0] >= LONG * heights[0])


def is_within(quad: Quad, lines: Sequence[Quad]) -> bool:
    """Return whether the middle of something found lies within one of the lines."""
    x, y = np.reshape(np.array(quad, float), (4, 2)).mean(axis=0)
    outlines = [np.array(line, np.int32).reshape(4, 1, 2) for line in lines]
    return any(cv2.pointPolygonTest(each, (float(x), float(y)), False) >= 0 for each in outlines)


def _sizes(corners: _Floats) -> tuple[_Floats, _Floats]:
    """Return the widths and heights of quads."""
    along, down = corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0]
    return np.hypot(*along.T), np.hypot(*down.T)
