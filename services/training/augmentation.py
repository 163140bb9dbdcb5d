"""Change pictures of lines as pens, scanners and cuts do, without changing what they read."""

import cv2
import numpy as np

from app.images import Pixels

SHARE = 0.8
"""Of the lines of a step; the others stay as they are."""
ROTATION_DEGREES = 1.5
SLANT = 0.25
"""Pixels to the side for each pixel of height: handwriting leans either way."""
STRETCH = 0.15
"""Narrower or wider by as much."""
SHIFT = 0.06
"""Of the height, up or down: no cut is exact."""
CONTRAST, BRIGHTNESS = 0.3, 30
NOISE = 8.0
"""Standard deviation at most, of 255."""


def augment(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """Return a changed picture of the line; the same ``random`` gives the same one."""
    if random.random() > SHARE:
        return pixels
    return _tone(_stroke(_bend(pixels, random), random), random)


def _bend(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """Lean, turn, stretch and shift; what comes into the picture is paper."""
    height, width = pixels.shape[:2]
    slant = random.uniform(-SLANT, SLANT)
    turn = np.tan(np.radians(random.uniform(-ROTATION_DEGREES, ROTATION_DEGREES)))
    turn *= min(1.0, 6 * height / width)  # a long line would leave the picture
    stretch = 1 + random.uniform(-STRETCH, STRETCH)
    new_width = max(1, round(width * stretch + abs(slant) * height))
    to_side = max(0.0, slant * height)
    down = random.uniform(-SHIFT, SHIFT) * height - turn * width / 2
    matrix = np.array([[stretch, -slant, to_side], [turn, 1.0, down]])
    paper = np.median(pixels, axis=(0, 1)).tolist()
    bent = cv2.warpAffine(pixels, matrix, (new_width, height), borderValue=paper)
    return bent.astype(np.uint8, copy=False)


def _stroke(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """Make strokes thicker, thinner or blurred."""
    match random.integers(6):
        case 0:
            changed = cv2.erode(pixels, np.ones((2, 2), np.uint8))
        case 1:
            changed = cv2.dilate(pixels, np.ones((2, 2), np.uint8))
        case 2:
            changed = cv2.GaussianBlur(pixels, (0, 0), random.uniform(0.4, 1.2))
        case _:
            return pixels
    return changed.astype(np.uint8, copy=False)


def _tone(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """Change contrast and brightness; add the grain of a scanner."""
    contrast = 1 + random.uniform(-CONTRAST, CONTRAST)
    brightness = random.uniform(-BRIGHTNESS, BRIGHTNESS)
    grain = random.normal(0, random.uniform(0, NOISE), pixels.shape[:2])[..., None]
    changed = (pixels - 128.0) * contrast + 128 + brightness + grain
    return changed.clip(0, 255).astype(np.uint8)
