"""Load an engine by its name."""

from importlib import import_module

from app.engines.base import Engine
from app.engines.calibration import calibrated
from app.engines.known_calibrations import calibrations_identity, with_known_calibration
from app.engines.models_folder import read_promotions
from app.engines.settings import UNCALIBRATED, ModelsSettings, RapidSettings
from app.settings import EngineName
from services.common.domain.trained_models import CALIBRATION_MARK, in_service

_MODULES: dict[EngineName, str] = {"rapidocr": "app.engines.rapid", "trocr": "app.engines.trocr"}


def load_engine(name: EngineName, *, threads: int = 1) -> Engine:
    """Import an engine's libraries and load its model; takes seconds.

    Only the engine in use is imported, as each has its own runtime.

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
    settings = ModelsSettings()
    if settings.calibration is None:
        return with_known_calibration(engine, settings.models)
    return (
        engine if settings.calibration == UNCALIBRATED else calibrated(engine, settings.calibration)
    )


def wanted_model(name: EngineName) -> str:
    """Return the identity of the model that should be served now.

    Only the default engine's changes while the API runs: by a promotion, or by a calibration.

    Raises:
        PromotionError: The file of promotions is corrupt.
    """
    named, models = RapidSettings().model, ModelsSettings().models
    if name != "rapidocr":
        return named
    promotion = None if named else in_service(read_promotions(models))
    model = f"{promotion.model}@{promotion.content_hash}" if promotion else named
    return f"{model}{CALIBRATION_MARK}{calibrations_identity(models)}"
