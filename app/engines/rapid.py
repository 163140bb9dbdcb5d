"""PP-OCRv6 on onnxruntime, through rapidocr: recogniser only, with the weights of its wheel."""

from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import as_file, files
from typing import Any

import cv2
import numpy as np
from rapidocr import RapidOCR

from app.engines.base import Reading
from app.images import Pixels

MODEL_FILE = "PP-OCRv6_rec_small.onnx"
MODEL_HEIGHT = 48
"""Pixels: the only height that the model takes."""
MAX_MODEL_WIDTH = 3200
"""Pixels: some 130 characters; 0.7 s and 120 MB, both growing with the width."""


class RapidEngine:
    """Reads lines of printed text.

    The model session, the only state that calls share, is safe to use from several threads.

    Args:
        reader: rapidocr with its detector and classifier off.
        model_version: Name of the weights and version of rapidocr.
    """

    name = "rapidocr"
    best_batch = 1

    def __init__(self, reader: RapidOCR, *, model_version: str) -> None:
        self._reader = reader
        self.model_version = model_version

    def read(self, pixels: Pixels) -> Reading:
        """Read one line of text; an image without text gives ``""`` and 0."""
        result: Any = self._reader(np.ascontiguousarray(_fit(pixels)[:, :, ::-1]))
        return Reading(result.txts[0], result.scores[0])

    def read_many(self, images: Sequence[Pixels]) -> list[Reading]:
        """Read several lines, one after the other: padded to one width they take longer."""
        return [self.read(pixels) for pixels in images]


def load() -> RapidEngine:
    """Load the weights.

    Raises:
        FileNotFoundError: The wheel does not hold them; nothing is downloaded instead.
    """
    cv2.setNumThreads(1)  # the caller's threads are the parallelism
    with as_file(files("rapidocr") / "models" / MODEL_FILE) as model:
        reader = RapidOCR(
            params={
                "Global.use_det": False,
                "Global.use_cls": False,
                "Global.use_preprocess_img": False,  # raises on very wide images
                "Global.log_level": "critical",
                "Rec.model_path": str(model),
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )
        reader(np.full((MODEL_HEIGHT, MODEL_HEIGHT, 3), 255, np.uint8))  # loads at the first call
    return RapidEngine(reader, model_version=f"ppocrv6-small@rapidocr-{version('rapidocr')}")


def _fit(pixels: Pixels) -> Pixels:
    """Bring an image to the model's height where rapidocr would do it badly or at any price.

    It samples 2 x 2 pixels whatever the factor, so strokes of a large image vanish between them;
    and it lets the width, and so time and memory, grow without limit.
    """
    height, width = pixels.shape[:2]
    fitting = max(1, round(width * MODEL_HEIGHT / height))
    if height < 2 * MODEL_HEIGHT and fitting <= MAX_MODEL_WIDTH:
        return pixels
    size = (min(fitting, MAX_MODEL_WIDTH), MODEL_HEIGHT)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
