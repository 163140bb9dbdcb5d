"""Calibrations that models are served with unless ``OCR_CALIBRATION`` says otherwise.

``docreco calibrate --auto`` writes them into the folder of models. Without such, a trained model
has that of its record, and the embedded one that of ``calibrations.json`` in this package.
"""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from app.engines.base import Engine
from app.engines.calibration import (
    CalibratedEngine,
    Calibration,
    CalibrationError,
    calibration_hash,
)
from app.engines.model_record import read_record
from app.engines.models_folder import LocalModel, locked, models_in, write_shared
from services.common.domain.trained_models import CALIBRATION_MARK

FILE = "calibrations.json"
PACKAGED = Path(__file__).with_name(FILE)
KEPT = 1000
"""Limit of calibrations in the folder of models; earlier ones tell what stored scores were."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    provenance: str = ""
    calibrations: list[Calibration] = []


def known_calibrations(models: Path) -> list[Calibration]:
    """Return all calibrations; of one model version the last one is valid.

    Raises:
        CalibrationError: The file in the folder of models is damaged.
        ValueError: The record of a model is damaged.
    """
    records = (read_record(each.folder) for each in models_in(models))
    return [
        *_read(PACKAGED),
        *(each.calibration for each in records if each and each.calibration),
        *_read(models / FILE),
    ]


def add_calibrations(models: Path, added: Sequence[Calibration]) -> None:
    """Make calibrations valid; OCR APIs pick them up.

    Raises:
        CalibrationError: The file is damaged.
        OSError: It can't be written.
    """
    with locked(models):
        changed = _File(calibrations=[*_read(models / FILE), *added][-KEPT:])
        write_shared(models / FILE, changed.model_dump_json(indent=2) + "\n")


def with_known_calibration(engine: Engine, models: Path) -> Engine:
    """Apply the valid calibration of an engine's version, if there is one.

    Another runtime or precision has other scores, which are not changed.

    Raises:
        CalibrationError: The file in the folder of models is damaged.
    """
    version = engine.model_version
    if CALIBRATION_MARK in version:
        return engine
    own = LocalModel("", models / version.partition("@")[0])
    record = read_record(own.folder) if own.is_for_default_engine else None
    known = [
        *_read(PACKAGED),
        *([record.calibration] if record and record.calibration else []),
        *_read(models / FILE),
    ]
    valid = next((each for each in reversed(known) if each.model_version == version), None)
    return engine if valid is None else CalibratedEngine(engine, valid, file_hash=valid.hash)


def calibrations_identity(models: Path) -> str:
    """Return what changes with the file in the folder of models."""
    try:
        return calibration_hash((models / FILE).read_bytes())
    except OSError:
        return ""


def _read(file: Path) -> list[Calibration]:
    try:
        return _File.model_validate_json(file.read_bytes()).calibrations
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        raise CalibrationError(f"{file} can't be read: {error}") from error
