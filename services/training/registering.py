"""Save a trained model to the folder of models, atomically."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from app.engines.model_record import ModelRecord, write_record
from app.engines.models_folder import LocalModel
from app.engines.settings import ModelsSettings
from app.engines.weights import EMBEDDED
from services.common.domain.errors import PermanentError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class UnusableNameError(PermanentError):
    """A model can't have this name."""

    code = "unusable_name"


def free_place(name: str) -> LocalModel:
    """Return where a new model goes: what was trained for hours is not replaced.

    Raises:
        UnusableNameError: There is one of this name, or it is no name.
    """
    if not _NAME.fullmatch(name) or name == EMBEDDED:
        raise UnusableNameError(
            f"{name!r} can't be a model's name: use letters, digits, '.', '_' and '-', and not "
            f"{EMBEDDED}"
        )
    place = LocalModel(name, ModelsSettings().models / name)
    if place.folder.exists():
        raise UnusableNameError(
            f"{place.folder} is there already: choose another name, or delete it"
        )
    return place


def register(place: LocalModel, save: Callable[[Path], None], record: ModelRecord) -> None:
    """Save a model beside its place, and move it there.

    Raises:
        OSError: Something is there meanwhile, or the disk takes no more.
    """
    saving = place.folder.with_name(f".{place.name}.partial")
    shutil.rmtree(saving, ignore_errors=True)
    saving.mkdir(parents=True)
    save(saving)
    write_record(saving, record)
    saving.rename(place.folder)
