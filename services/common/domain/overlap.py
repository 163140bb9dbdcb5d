"""Compare the places of lines on a page."""

import cv2
import numpy as np

from services.common.domain.page import Quad

SAME = 0.5
"""Minimum intersection over union of the same line."""
ALIKE = 0.5
"""Minimum cosine between the directions of the same line: upside down it is another image."""
COVERED = 0.8
"""Share of a line within a drawn one from which on both are the same text."""


def is_same_place(one: Quad, other: Quad, least: float = SAME) -> bool:
    """Return whether two lines are in the same place, and read in the same direction."""
    return are_alike(one, other) and iou(one, other) >= least


def is_same_text(found: Quad, drawn: Quad) -> bool:
    """Return whether a line is of the text that a person drew a box around."""
    is_within = common_area(found, drawn) >= COVERED * area(found)
    return (is_within and are_alike(found, drawn)) or is_same_place(found, drawn)


def are_alike(one: Quad, other: Quad) -> bool:
    """Return whether two lines read in about the same direction."""
    first, second = (np.subtract(quad[2:4], quad[:2]) for quad in (one, other))
    lengths = float(np.hypot(*first) * np.hypot(*second))
    return float(first @ second) > ALIKE * lengths


def iou(one: Quad, other: Quad) -> float:
    """Return the intersection over the union of two quads."""
    common = common_area(one, other)
    return common / (area(one) + area(other) - common) if common else 0.0


def common_area(one: Quad, other: Quad) -> float:
    """Return the area that two quads share."""
    first, second = (np.array(quad, np.float32).reshape(4, 2) for quad in (one, other))
    return float(cv2.intersectConvexConvex(first, second)[0])


def area(quad: Quad) -> float:
    """Return the area of a quad."""
    return float(cv2.contourArea(np.array(quad, np.float32).reshape(4, 2)))
