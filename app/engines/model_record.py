"""Record of a model that was trained here: ``model.json`` in its folder."""

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from app.engines.calibration import Calibration
from app.engines.models_folder import locked, read_limited, write_shared
from app.engines.weights import damaged
from services.common.domain.records import first_problem
from services.common.domain.trained_models import RECORD, TrainedRecord


class ModelRecord(TrainedRecord[Calibration]):
    """The content of ``model.json``."""


def read_record(folder: Path) -> ModelRecord | None:
    """Return the record of a model; None if it was not trained here.

    Raises:
        UnexpectedModelError: The file is damaged, or too large.
    """
    try:
        return ModelRecord.model_validate_json(read_limited(folder / RECORD))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise damaged(folder / RECORD, first_problem(error)) from error


def change_record(folder: Path, change: Callable[[ModelRecord], ModelRecord]) -> None:
    """Update the record of a model by ``change``, under the lock that promotions take.

    Raises:
        FileNotFoundError: There is none.
        UnexpectedModelError: The file is damaged, or too large.
        OSError: It can't be written.
    """
    with locked(folder.parent):
        if (record := read_record(folder)) is None:
            raise FileNotFoundError(f"{folder} has no {RECORD}")
        write_shared(folder / RECORD, change(record).model_dump_json(indent=2) + "\n")


def write_record(folder: Path, record: ModelRecord) -> None:
    """Write the record of a new model atomically, under the lock that promotions take."""
    with locked(folder.parent):
        write_shared(folder / RECORD, record.model_dump_json(indent=2) + "\n")
