"""PP-OCRv6, the recogniser whose weights are in rapidocr's wheel, or others trained from them.

Only the weights are rapidocr's: pre- and post-processing are in ``lines``, so that the model can be
reduced to an alphabet and run by another runtime. With all characters on onnxruntime its results
equal rapidocr's, as a test checks.
"""

from collections.abc import Sequence
from importlib.metadata import version

import cv2
import numpy as np
import structlog
from numpy.typing import NDArray

from app.engines.base import Engine, EngineReading
from app.engines.language import LanguageModel, parse_language, search
from app.engines.lines import MIN_MODEL_WIDTH, to_batch, to_reading
from app.engines.loading import with_known_calibration
from app.engines.models_folder import (
    PromotionError,
    hash_of_contents,
    read_promotions,
    trained_model,
)
from app.engines.runtimes import (
    PROCESSORS,
    Runtime,
    choose_form,
    declared_flags,
    open_runtime,
)
from app.engines.settings import ModelsSettings, RapidSettings
from app.engines.weights import UnexpectedModelError, load_weights, parse_trained
from app.images import Pixels
from services.common.domain.trained_models import EMBEDDED, Promotion, in_service

log = structlog.stdlib.get_logger(__name__)


class RapidEngine:
    """Reads lines of printed text.

    The model, the only state that calls share, is safe to use from several threads.

    Args:
        runtime: Computes the model.
        characters: Of its columns; the first is the blank.
        model_version: Name of the weights, alphabet, version of rapidocr, runtime and precision.
        language: Of the texts to expect, if known.
    """

    name = "rapidocr"
    best_batch = 1
    least_width = MIN_MODEL_WIDTH

    def __init__(
        self,
        runtime: Runtime,
        characters: NDArray[np.str_],
        *,
        model_version: str,
        language: LanguageModel | None = None,
    ) -> None:
        self._runtime = runtime
        self._characters = characters
        self._names: list[str] = characters.tolist()
        self._language = language
        self.model_version = model_version

    def read(self, pixels: Pixels) -> EngineReading:
        """Read one line of text; an image without text gives ``""`` and 0."""
        probabilities = self._runtime(to_batch(pixels))
        if self._language is not None:
            return search(probabilities, self._names, self._language)
        return to_reading(probabilities, self._characters)

    def read_many(self, images: Sequence[Pixels]) -> list[EngineReading]:
        """Read lines one by one, as a batch would pad all to the widest."""
        return [self.read(pixels) for pixels in images]


def load(*, threads: int) -> Engine:
    """Load the weights that ``OCR_MODEL`` names, the promoted ones, or those of the wheel.

    Raises:
        PromotionError: The file of promotions is damaged, or the files are not those promoted.
        Exception: As ``load_model``.
    """
    if named := RapidSettings().model:
        return load_model(named, threads=threads)
    return _load_promoted(in_service(read_promotions(ModelsSettings().models)), threads=threads)


def load_earlier(*, threads: int) -> Engine:
    """Load the latest earlier promotion that is valid and can be loaded, or the embedded model."""
    try:
        promotions = read_promotions(ModelsSettings().models)
    except PromotionError:
        promotions = []
    valid = [each for each in reversed(promotions) if each.rolled_back is None]
    for promotion in valid[1:]:
        try:
            return _load_promoted(promotion, threads=threads)
        except Exception:
            log.exception("earlier model failed to load", model=promotion.model)
    return load_model(EMBEDDED, threads=threads)


def _load_promoted(promotion: Promotion | None, *, threads: int) -> Engine:
    if promotion is None:
        return load_model(EMBEDDED, threads=threads)
    return load_model(promotion.model, threads=threads, content_hash=promotion.content_hash)


def load_model(name: str, *, threads: int, content_hash: str = "") -> Engine:
    """Load a model of the models folder, or the embedded one.

    Args:
        name: Its name.
        threads: Number of concurrent readers.
        content_hash: That its files must have; empty: any.

    Raises:
        FileNotFoundError: They are not there; nothing is downloaded instead.
        UnexpectedModelError: The files are damaged, too large, or do not belong together.
        PromotionError: The files have another hash.
        UnavailablePrecisionError: ``OCR_PRECISION`` can't be computed here.
    """
    cv2.setNumThreads(1)  # the caller's threads are the parallelism
    settings = RapidSettings()
    form = choose_form(settings, declared_flags(PROCESSORS))
    language = None
    if name == EMBEDDED:
        weights = load_weights(settings.alphabet)
        alphabet = "" if settings.alphabet == "all" else f"-{settings.alphabet}"
        identity = f"ppocrv6-small{alphabet}@rapidocr-{version('rapidocr')}"
    else:
        model = trained_model(name, ModelsSettings().models)
        contents = model.read()
        found = hash_of_contents(contents)  # of the very bytes that are loaded
        if content_hash not in {"", found}:
            raise PromotionError(
                f"{model.folder} has changed: promoted was {name}@{content_hash}, found {found}"
            )
        weights, identity = parse_trained(contents, folder=model.folder), f"{name}@{found}"
        language = parse_language(contents, folder=model.folder)
    try:
        runtime = open_runtime(form, weights.model, threads=threads)
    except Exception as error:  # each runtime has errors of its own
        raise UnexpectedModelError(f"{identity} can't be loaded by {form.name}: {error}") from error
    engine = RapidEngine(
        runtime,
        weights.characters,
        model_version=f"{identity}+{form.name}",
        language=language,
    )
    if ModelsSettings().calibration is not None:
        return engine
    return with_known_calibration(engine, ModelsSettings().models)
