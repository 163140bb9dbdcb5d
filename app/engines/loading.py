"""Load an engine by its name."""

from importlib import import_module

from app.engines.base import Engine
from app.engines.calibration import calibrated
from app.engines.settings import ModelsSettings
from app.settings import EngineName

_MODULES: dict[EngineName, str] = {"rapidocr": "app.engines.rapid", "trocr": "app.engines.trocr"}


def load_engine(name: EngineName, *, threads: int = 1) -> Engine:
    """Import an engine's libraries and load its model; takes seconds.

    Only the engine in use is imported: each brings a runtime of its own.

    Args:
        name: Which engine.
        threads: How many threads will read at once.

    Raises:
        CalibrationError: The calibration file can't be used with this model.
        Exception: Whatever the engine's libraries raise where they or the weights are missing.
    """
    engine: Engine = import_module(_MODULES[name]).load(threads=threads)
    calibration = ModelsSettings().calibration
    return engine if calibration is None else calibrated(engine, calibration)
