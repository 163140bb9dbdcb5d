"""PP-OCRv6, the recogniser whose weights are in rapidocr's wheel.

Only the weights are rapidocr's: preparing a line and decoding the output are in ``lines``, so that
the model can be cut to an alphabet and computed by another runtime. With all characters on
onnxruntime it reads what rapidocr reads; a test holds it to that.
"""

from collections.abc import Sequence
from importlib.metadata import version

import cv2
import numpy as np
from numpy.typing import NDArray

from app.engines.base import Reading
from app.engines.lines import MIN_MODEL_WIDTH, to_batch, to_reading
from app.engines.runtimes import (
    PROCESSORS,
    Runtime,
    choose_form,
    declared_flags,
    open_runtime,
)
from app.engines.settings import RapidSettings
from app.engines.weights import load_weights
from app.images import Pixels


class RapidEngine:
    """Reads lines of printed text.

    The model, the only state that calls share, is safe to use from several threads.

    Args:
        runtime: Computes the model.
        characters: What its columns mean; the first is the blank.
        model_version: Name of the weights, alphabet, version of rapidocr, runtime and precision.
    """

    name = "rapidocr"
    best_batch = 1
    least_width = MIN_MODEL_WIDTH

    def __init__(
        self, runtime: Runtime, characters: NDArray[np.str_], *, model_version: str
    ) -> None:
        self._runtime = runtime
        self._characters = characters
        self.model_version = model_version

    def read(self, pixels: Pixels) -> Reading:
        """Read one line of text; an image without text gives ``""`` and 0."""
        return to_reading(self._runtime(to_batch(pixels)), self._characters)

    def read_many(self, images: Sequence[Pixels]) -> list[Reading]:
        """Read lines one by one: a batch would pad all of them to the widest."""
        return [self.read(pixels) for pixels in images]


def load(*, threads: int) -> RapidEngine:
    """Load the weights.

    Args:
        threads: How many will read at once.

    Raises:
        FileNotFoundError: The wheel does not hold them; nothing is downloaded instead.
        UnavailablePrecisionError: ``OCR_PRECISION`` can't be computed here.
    """
    cv2.setNumThreads(1)  # the caller's threads are the parallelism
    settings = RapidSettings()
    form = choose_form(settings, declared_flags(PROCESSORS))
    weights = load_weights(settings.alphabet)
    alphabet = "" if settings.alphabet == "all" else f"-{settings.alphabet}"
    return RapidEngine(
        open_runtime(form, weights.model, threads=threads),
        weights.characters,
        model_version=f"ppocrv6-small{alphabet}@rapidocr-{version('rapidocr')}+{form.name}",
    )
