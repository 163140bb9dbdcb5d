"""Load an engine by its name."""

from importlib import import_module

from app.engines.base import Engine
from app.engines.calibration import calibrated
from app.engines.promotion import in_service, read_promotions
from app.engines.settings import ModelsSettings, RapidSettings
from app.settings import EngineName

_MODULES: dict[EngineName, str] = {"rapidocr": "app.engines.rapid", "trocr": "app.engines.trocr"}


def load_engine(name: EngineName, *, threads: int = 1) -> Engine:
    """Import an engine's libraries and load its model; takes seconds.

    Only the engine in use is imported, as each has its own runtime.

    Args:
        name: Which engine.
        threads: How many threads will read at once.

    Raises:
        CalibrationError: The calibration file can't be used with this model.
        Exception: Of the engine's libraries if they or the weights are missing.
    """
    return _calibrated(import_module(_MODULES[name]).load(threads=threads))


def load_fallback(name: EngineName, *, threads: int = 1) -> Engine | None:
    """Load what is served while the promoted model can't be loaded.

    None where a setting names the model: no other one may answer for it.

    Raises:
        Exception: As ``load_engine``.
    """
    if name != "rapidocr" or RapidSettings().model:
        return None
    return _calibrated(import_module(_MODULES[name]).load_earlier(threads=threads))


def _calibrated(engine: Engine) -> Engine:
    calibration = ModelsSettings().calibration
    return engine if calibration is None else calibrated(engine, calibration)


def wanted_model(name: EngineName) -> str:
    """Return the identity of the model that should be served now.

    Only the default engine's changes while the API runs: by a promotion.

    Raises:
        PromotionError: The file of promotions is corrupt.
    """
    named = RapidSettings().model
    if name != "rapidocr" or named:
        return named
    promotion = in_service(read_promotions(ModelsSettings().models))
    return f"{promotion.model}@{promotion.content_hash}" if promotion else ""
