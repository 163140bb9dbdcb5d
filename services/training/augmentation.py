"""Augment images of lines: slant, stroke width, noise and crops."""

import cv2
import numpy as np

from app.images import Pixels

SHARE = 0.8
"""Share of augmented lines in a step."""
ROTATION_DEGREES = 1.5
SLANT = 0.25
"""Horizontal pixels per pixel of height: handwriting slants either way."""
STRETCH = 0.15
"""Change of the width."""
SHIFT = 0.06
"""Vertical shift, as a share of the height, as crops are inexact."""
CONTRAST, BRIGHTNESS = 0.3, 30
NOISE = 8.0
"""Standard deviation at most, of 255."""


def augment(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """Return an augmented image of the line (deterministic by ``random``)."""
    if random.random() > SHARE:
        return pixels
    return _tone(_stroke(_bend(pixels, random), random), random)


def _bend(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """Slant, rotate, stretch and shift; new areas are paper."""
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
