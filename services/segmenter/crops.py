"""Cut lines out of a page.

The rotated rectangle is warped level, without a mask and without a margin around it: masks cost the
recogniser up to three points of its error rate, and margins show it the neighbours' ink
(docs/pages.md).
"""

import math
from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from services.common.domain.page import Quad
from services.segmenter.detection import Pixels

LINE_CONTENT_TYPE = "image/webp"
_LEAST_EFFORT = 0
"""Of lossless WebP: 6 takes several times as long for 5 % fewer bytes."""


def cut_line(pixels: Pixels, quad: Quad) -> Pixels:
    """Return a line at the page's resolution, level.

    Args:
        pixels: Of the page.
        quad: Its corners.
    """
    corners = np.array(quad, np.float32).reshape(4, 2)
    width = max(1, round((math.dist(*corners[[0, 1]]) + math.dist(*corners[[3, 2]])) / 2))
    height = max(1, round((math.dist(*corners[[0, 3]]) + math.dist(*corners[[1, 2]])) / 2))
    level = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    transform = cv2.getPerspectiveTransform(corners, level)
    line = cv2.warpPerspective(
        pixels,
        transform,
        (width, height),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return line.astype(np.uint8, copy=False)


def encode_line(line: Pixels) -> bytes:
    """Return a line as lossless WebP."""
    file = BytesIO()
    Image.fromarray(line).save(file, "WEBP", lossless=True, quality=_LEAST_EFFORT, method=2)
    return file.getvalue()
