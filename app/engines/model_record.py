"""Record of a model that was trained here: ``model.json`` in its folder."""

from pathlib import Path

from pydantic import ValidationError

from app.engines.calibration import Calibration
from app.engines.models_folder import locked, write_shared
from services.common.domain.trained_models import RECORD, TrainedRecord


class ModelRecord(TrainedRecord[Calibration]):
    """The content of ``model.json``."""


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
    """Write the record of a model atomically, under the lock that promotions take."""
    with locked(folder.parent):
        write_shared(folder / RECORD, record.model_dump_json(indent=2) + "\n")
