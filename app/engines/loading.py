"""Load an engine by its name, with the calibration that its model is served with.

``docreco calibrate --auto`` writes calibrations into the folder of models. Without such, a trained
model has that of its record, and the embedded one that of ``calibrations.json`` in this package.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from app.engines.base import Engine
from app.engines.calibration import (
    CalibratedEngine,
    Calibration,
    CalibrationError,
    calibrated,
    calibration_hash,
)
from app.engines.model_record import read_record
from app.engines.models_folder import (
    RESTORE,
    LocalModel,
    locked,
    models_in,
    read_limited,
    read_promotions,
    write_shared,
)
from app.engines.settings import UNCALIBRATED, ModelsSettings, RapidSettings
from app.engines.weights import UnexpectedModelError
from app.settings import EngineName
from services.common.domain.trained_models import CALIBRATION_MARK, in_service

FILE = "calibrations.json"
PACKAGED = Path(__file__).with_name(FILE)
KEPT = 1000
"""Limit of calibrations in the folder of models; earlier ones tell what stored scores were."""

_MODULES: dict[EngineName, str] = {"rapidocr": "app.engines.rapid", "trocr": "app.engines.trocr"}


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    provenance: str = ""
    calibrations: list[Calibration] = []


def known_calibrations(models: Path) -> list[Calibration]:
    """Return all calibrations; of one model version the last one is valid.

    Raises:
        CalibrationError: The file in the folder of models is damaged or too large.
        UnexpectedModelError: So is the record of a model.
    """
    records = (read_record(each.folder) for each in models_in(models))
    return [
        *_read(PACKAGED).calibrations,
        *(each.calibration for each in records if each and each.calibration),
        *_read(models / FILE).calibrations,
    ]


def add_calibrations(models: Path, added: Sequence[Calibration]) -> None:
    """Make calibrations valid; OCR APIs pick them up.

    Raises:
        CalibrationError: The file is damaged or too large.
        UnexpectedModelError: It would be too large.
        OSError: It can't be written.
    """
    with locked(models):
        file = _read(models / FILE)
        kept = [*file.calibrations, *added][-KEPT:]
        changed = file.model_copy(update={"calibrations": kept})
        write_shared(models / FILE, changed.model_dump_json(indent=2) + "\n")


def with_known_calibration(engine: Engine, models: Path) -> Engine:
    """Apply the valid calibration of an engine's version, if there is one.

    Another runtime or precision has other scores, which are not changed.

    Raises:
        CalibrationError: The file in the folder of models is damaged or too large.
        UnexpectedModelError: So is the record of the model.
    """
    version = engine.model_version
    if CALIBRATION_MARK in version:
        return engine
    own = LocalModel("", models / version.partition("@")[0])
    record = read_record(own.folder) if own.is_for_default_engine else None
    known = [
        *_read(PACKAGED).calibrations,
        *([record.calibration] if record and record.calibration else []),
        *_read(models / FILE).calibrations,
    ]
    valid = next((each for each in reversed(known) if each.model_version == version), None)
    return engine if valid is None else CalibratedEngine(engine, valid, file_hash=valid.hash)


def calibrations_identity(models: Path) -> str:
    """Return what changes with the file in the folder of models."""
    try:
        return calibration_hash(read_limited(models / FILE))
    except OSError:
        return ""
    except UnexpectedModelError:
        return "too-large"


def _read(file: Path) -> _File:
    try:
        return _File.model_validate_json(read_limited(file, to_do=RESTORE))
    except FileNotFoundError:
        return _File()
    except UnexpectedModelError as error:
        raise CalibrationError(str(error)) from error
    except (OSError, ValidationError) as error:
        raise CalibrationError(f"{file} can't be read: {error}") from error


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
