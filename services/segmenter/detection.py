"""Find the lines of text on a page.

PP-OCRv6_det_small gives each pixel of the reduced page a probability that it is text
(differentiable binarization, arXiv:1911.08947); what is connected above a threshold is a line. Its
weights are in rapidocr's wheel. The settings were chosen by measurement: docs/pages.md,
docs/decisions/0038-pages-become-lines.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from services.common.adapters.openvino_cpu import compile_model
from services.common.domain.page import Quad
from services.segmenter.joining import Box, join_pieces
from services.segmenter.margins import is_long, is_within, margins

Pixels = NDArray[np.uint8]
"""Height x width x 3, red, green, blue."""
ProbabilityMap = NDArray[np.float32]
"""Height x width."""

MODEL_FILE = "PP-OCRv6_det_small.onnx"
THRESHOLD = 0.4
"""Threshold of the probability of a text pixel."""
LEAST_SCORE = 0.5
"""Mean probability of a line."""
GROWTH = 1.4
"""The model finds the core of a line: each side is moved out by area * growth / perimeter."""
LEAST_SIDE = 3
"""Minimum thickness of text, in pixels of the reduced page."""
TALL = 2.0
"""Ratio of height to width of vertical lines."""
REVISION = 2
"""Version of the post-processing; increment it with each change of results."""
_STRIDE = 32
"""Sides of the model's input are multiples of it."""


@dataclass(frozen=True)
class DetectedLine:
    """A line that a detector found."""

    quad: Quad
    score: float
    """0 to 1."""


class Detector(Protocol):
    """Finds lines (thread-safe)."""

    name: str
    version: str
    """Version of all that changes its results: weights, libraries, settings."""

    def find(self, pixels: Pixels) -> list[DetectedLine]:
        """Return the lines of an upright page, in any order."""
        ...


class PaddleDetector:
    """Finds lines by PP-OCRv6_det_small.

    Args:
        compute: The model: 1 x 3 x height x width in, probabilities out.
        longest_side: Pixels to which a larger page is reduced.
    """

    name = "ppocrv6-det-small"

    def __init__(
        self, compute: Callable[[NDArray[np.float32]], ProbabilityMap], *, longest_side: int
    ) -> None:
        self._compute = compute
        self._longest_side = longest_side
        self.version = (
            f"rapidocr-{version('rapidocr')}+openvino-f32+side-{longest_side}+r{REVISION}"
        )

    def find(self, pixels: Pixels) -> list[DetectedLine]:
        """Return the lines of an upright page, in any order, also those on their side."""
        found = self._find_lying(pixels)
        height, width = pixels.shape[:2]
        for margin in margins([each.quad for each in found], width):
            on_side = [
                DetectedLine(margin.place(each.quad, height), each.score)
                for each in self._find_lying(margin.turned(pixels))
                if is_long(each.quad)
            ]
            lines = [each.quad for each in on_side]
            found = [each for each in found if not is_within(each.quad, lines)] + on_side
        return found

    def _find_lying(self, pixels: Pixels) -> list[DetectedLine]:
        """Return the lines that lie, and pieces of others."""
        height, width = pixels.shape[:2]
        reduced = _reduce(pixels, self._longest_side)
        probabilities = self._compute(_to_batch(reduced))
        scale = np.array([width / reduced.shape[1], height / reduced.shape[0]])
        edge = np.array([width - 1, height - 1])
        found = []
        for box in join_pieces(_boxes(probabilities)):
            placed = np.clip(np.rint(box.corners * scale), 0, edge)
            found.append(DetectedLine(_to_quad(placed), box.score))
        return found


def load_detector(*, longest_side: int) -> PaddleDetector:
    """Load the weights of rapidocr's wheel into OpenVINO, one core for each call.

    onnxruntime takes three times as long for this model.

    Raises:
        FileNotFoundError: The wheel does not hold them; nothing is downloaded instead.
    """
    cv2.setNumThreads(1)  # the caller's threads are the parallelism
    compiled = compile_model(
        _model_path(), {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    )

    def compute(batch: NDArray[np.float32]) -> ProbabilityMap:
        request = compiled.create_infer_request()
        request.infer({0: batch}, share_inputs=True)
        result: ProbabilityMap = request.get_output_tensor(0).data[0, 0].copy()
        return result

    return PaddleDetector(compute, longest_side=longest_side)


def _model_path() -> Path:
    spec = find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("rapidocr is not installed")
    return Path(spec.origin).parent / "models" / MODEL_FILE


def _reduce(pixels: Pixels, longest_side: int) -> Pixels:
    height, width = pixels.shape[:2]
    scale = min(1.0, longest_side / max(height, width))
    sides = (max(_STRIDE, round(side * scale / _STRIDE) * _STRIDE) for side in (width, height))
    return cv2.resize(pixels, tuple(sides), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _to_batch(pixels: Pixels) -> NDArray[np.float32]:
    """Convert pixels to BGR in [-1, 1]."""
    batch = pixels[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32)
    batch *= np.float32(2 / 255)
    batch -= np.float32(1)
    return batch


def _boxes(probabilities: ProbabilityMap) -> list[Box]:
    """Return the rectangle around each region of text."""
    mask = (probabilities > THRESHOLD).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    boxes = []
    for contour in contours:
        core = Box.around(contour.astype(np.float32), 0.0)
        if min(core.width, core.height) < LEAST_SIDE:
            continue
        score = _mean(probabilities, core.corners)
        if score >= LEAST_SCORE:
            growth = core.width * core.height * GROWTH / (core.width + core.height)
            boxes.append(
                core._replace(width=core.width + growth, height=core.height + growth, score=score)
            )
    return boxes


def _mean(probabilities: ProbabilityMap, corners: NDArray[np.float32]) -> float:
    """Return the mean probability within a rectangle."""
    height, width = probabilities.shape
    low = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, (width - 1, height - 1))
    high = np.clip(np.ceil(corners.max(axis=0)).astype(int), 0, (width - 1, height - 1))
    part = probabilities[low[1] : high[1] + 1, low[0] : high[0] + 1]
    mask = np.zeros(part.shape, np.uint8)
    cv2.fillPoly(mask, [(corners - low).astype(np.int32)], 1)
    return float(cv2.mean(part, mask)[0])


def _to_quad(corners: NDArray[np.float64]) -> Quad:
    """Put corners, clockwise, into the order of ``Quad``.

    A line reads to the right; one that stands on its side is taken to read upwards, as margins
    mostly are written.
    """
    sides = np.roll(corners, -1, axis=0) - corners
    first = int(np.argmax(sides[:, 0] - np.abs(sides[:, 1])))
    lengths = np.roll(np.hypot(*sides.T), -first)
    if lengths[1] > TALL * lengths[0]:
        first -= 1
    (x1, y1), (x2, y2), (x3, y3), (x4, y4) = np.roll(corners, -first, axis=0).astype(int).tolist()
    return x1, y1, x2, y2, x3, y3, x4, y4
