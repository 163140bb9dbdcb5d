"""PP-OCRv6, the recogniser whose weights are in rapidocr's wheel, or others trained from them.

Only the weights are rapidocr's: pre- and post-processing are in ``lines``, so that the model can be
reduced to an alphabet and run by another runtime. With all characters on onnxruntime its results
equal rapidocr's, as a test checks.
"""

from collections.abc import Sequence
from importlib.metadata import version

import cv2
import numpy as np
from numpy.typing import NDArray

from app.engines.base import Engine, Reading
from app.engines.lines import MIN_MODEL_WIDTH, to_batch, to_reading
from app.engines.model_record import read_record
from app.engines.models_folder import trained_model
from app.engines.promotion import in_service, read_promotions
from app.engines.runtimes import (
    PROCESSORS,
    Runtime,
    choose_form,
    declared_flags,
    open_runtime,
)
from app.engines.settings import ModelsSettings, RapidSettings
from app.engines.weights import EMBEDDED, load_weights, read_trained
from app.images import Pixels


class RapidEngine:
    """Reads lines of printed text.

    The model, the only state that calls share, is safe to use from several threads.

    Args:
        runtime: Computes the model.
        characters: Of its columns; the first is the blank.
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
        """Read lines one by one, as a batch would pad all to the widest."""
        return [self.read(pixels) for pixels in images]


def load(*, threads: int) -> Engine:
    """Load the weights that ``OCR_MODEL`` names, the promoted ones, or those of the wheel."""
    return load_model(wanted_name(), threads=threads)


def load_model(name: str, *, threads: int) -> Engine:
    """Load a model of the models folder, or the embedded one.

    Args:
        name: Its name.
        threads: Number of concurrent readers.

    Raises:
        FileNotFoundError: They are not there; nothing is downloaded instead.
        PromotionError: The file of promotions is damaged.
        UnavailablePrecisionError: ``OCR_PRECISION`` can't be computed here.
    """
    cv2.setNumThreads(1)  # the caller's threads are the parallelism
    settings = RapidSettings()
    form = choose_form(settings, declared_flags(PROCESSORS))
    record = None
    if name == EMBEDDED:
        weights = load_weights(settings.alphabet)
        alphabet = "" if settings.alphabet == "all" else f"-{settings.alphabet}"
        identity = f"ppocrv6-small{alphabet}@rapidocr-{version('rapidocr')}"
    else:
        model = trained_model(name, ModelsSettings().models)
        weights, identity = read_trained(model.folder), f"{model.name}@{model.content_hash}"
        record = read_record(model.folder)
    engine = RapidEngine(
        open_runtime(form, weights.model, threads=threads),
        weights.characters,
        model_version=f"{identity}+{form.name}",
    )
    if record is None or ModelsSettings().calibration is not None:
        return engine
    return record.calibrated(engine)


def wanted_name() -> str:
    """Return the name of the model that is to be served now.

    Raises:
        PromotionError: The file of promotions is damaged.
    """
    if named := RapidSettings().model:
        return named
    promotion = in_service(read_promotions(ModelsSettings().models))
    return promotion.model if promotion else EMBEDDED
