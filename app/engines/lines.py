"""Pre- and post-processing of PP-OCR's recogniser."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from app.engines.base import EngineReading
from app.images import Pixels

MODEL_HEIGHT = 48
"""Input height of the model, in pixels."""
MIN_MODEL_WIDTH = 320
"""Minimum width in pixels, by padding as in training."""
MAX_MODEL_WIDTH = 3200
"""Maximum width in pixels: some 130 characters; time and memory grow with the width."""

Batch = NDArray[np.float32]
"""1 x 3 x 48 x width: blue, green, red in [-1, 1]."""
Probabilities = NDArray[np.float32]
"""Steps x classes."""


def to_batch(pixels: Pixels) -> Batch:
    """Scale a line to the model's height and range, and pad it with 0 on the right.

    Equal to rapidocr's ``TextRecognizer.resize_norm_img`` except for large and very wide images
    (``_fit``).
    """
    fitting = _fit(pixels)
    height, width = fitting.shape[:2]
    ratio = width / height
    full_width = int(MODEL_HEIGHT * max(ratio, MIN_MODEL_WIDTH / MODEL_HEIGHT))
    resized_width = min(math.ceil(MODEL_HEIGHT * ratio), full_width)
    resized = cv2.resize(fitting, (resized_width, MODEL_HEIGHT))
    batch = np.zeros((1, 3, MODEL_HEIGHT, full_width), np.float32)
    batch[0, :, :, :resized_width] = _RANGE[resized[:, :, ::-1].transpose(2, 0, 1)]
    return batch


def to_reading(probabilities: Probabilities, characters: NDArray[np.str_]) -> EngineReading:
    """Decode greedily: the best class of each step, without repeats and blanks (CTC).

    The score is the mean probability of the characters; ``""`` and 0 without characters.

    Args:
        probabilities: Of one line.
        characters: By class; class 0 is the blank.
    """
    best = probabilities.argmax(axis=1)
    chosen = best != 0
    chosen[1:] &= best[1:] != best[:-1]
    if not chosen.any():
        return EngineReading("", 0.0)
    steps, classes = np.flatnonzero(chosen), best[chosen]
    score = float(probabilities[steps, classes].mean(dtype=np.float64))
    return EngineReading("".join(characters[classes]), score)


def _fit(pixels: Pixels) -> Pixels:
    """Scale an image to the model's height if rapidocr would do it badly or without limit.

    It samples 2 x 2 pixels at any factor, so strokes of large images vanish, and does not limit the
    width, and so time and memory.
    """
    height, width = pixels.shape[:2]
    fitting = max(1, round(width * MODEL_HEIGHT / height))
    if height < 2 * MODEL_HEIGHT and fitting <= MAX_MODEL_WIDTH:
        return pixels
    size = (min(fitting, MAX_MODEL_WIDTH), MODEL_HEIGHT)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


_RANGE = (np.arange(256, dtype=np.float32) / 255 - np.float32(0.5)) / np.float32(0.5)
"""By value of a byte."""
