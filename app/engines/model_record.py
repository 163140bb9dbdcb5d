"""Record of a model that was trained here: ``model.json`` in its folder."""

from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from app.engines.calibration import Calibration
from app.engines.models_folder import RECORD, write_shared


class Rates(BaseModel):
    """Quality of a model on lines."""

    model_config = ConfigDict(frozen=True)

    images: int
    cer: float
    exact: float
    score: float
    """Mean, before calibration."""


class Change(BaseModel):
    """Quality on the same lines before and after a training."""

    model_config = ConfigDict(frozen=True)

    before: Rates
    after: Rates


class Training(BaseModel):
    """Origin of weights."""

    model_config = ConfigDict(frozen=True)

    model: str
    base: str
    """The version of the model that it began with."""
    trained_at: datetime
    export_sha256: str
    """Of the manifest of the training data."""
    images: dict[str, int]
    licences: list[str]
    """Of the data; empty where nothing is known."""
    settings: dict[str, Any]
    epochs: int
    best_epoch: int
    added_characters: str
    metrics: dict[str, Change]
    """By split."""


class Decision(BaseModel):
    """Whether a model may be put into service, by lines that no model was trained on."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    model_version: str
    against: str
    """The version that was in service."""
    images: int
    cer: float
    against_cer: float
    p_value: float
    calibration_error: float
    by_source: dict[str, tuple[float, float]]
    """Character error rates before and after."""
    problems: list[str]
    """Reasons against it; empty: it may be served."""
    left_out: int = 0
    """Lines that were not read, as a model was trained on them."""
    warnings: list[str] = []
    """Reasons why other lines may be read worse."""


class ModelRecord(Training):
    """The content of ``model.json``."""

    calibration: Calibration | None = None
    """Turns scores into the probability that a line is read without an error."""
    decision: Decision | None = None
    """The last one."""
    history: list[Training] = []
    """Trainings of the models that it was trained from, the first one first."""


def read_record(folder: Path) -> ModelRecord | None:
    """Return the record of a model; None if it was not trained here.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        return ModelRecord.model_validate_json((folder / RECORD).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ValueError(f"{folder / RECORD} is damaged: {error}") from error


def write_record(folder: Path, record: ModelRecord) -> None:
    """Write the record of a model atomically."""
    write_shared(folder / RECORD, record.model_dump_json(indent=2) + "\n")
