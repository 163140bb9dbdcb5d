"""Save a trained model to the folder of models, atomically."""

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from app.engines.model_record import ModelRecord, write_record
from app.engines.models_folder import LocalModel, make_readable
from app.engines.settings import ModelsSettings
from services.common.domain.errors import PermanentError
from services.common.domain.trained_models import EMBEDDED
from services.training.learnt import Learnt, write_learnt

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class UnusableNameError(PermanentError):
    """A model can't have this name."""

    code = "unusable_name"


def free_place(name: str) -> LocalModel:
    """Return the folder of a new model; existing models are not replaced.

    Raises:
        UnusableNameError: The name exists or is invalid.
    """
    if (
        not _NAME.fullmatch(name)
        or name.lower().startswith(EMBEDDED)
        or name.lower().endswith(".json")
    ):
        raise UnusableNameError(
            f"{name!r} can't be a model's name: use letters, digits, '.', '_' and '-', no .json at "
            f"the end, and not {EMBEDDED} at the beginning"
        )
    place = LocalModel(name, ModelsSettings().models / name)
    if place.folder.exists():
        raise UnusableNameError(f"{place.folder} exists already: choose another name, or delete it")
    return place


def register(
    place: LocalModel,
    save: Callable[[Path], None],
    complete: Callable[[LocalModel], ModelRecord],
    learnt: Learnt,
) -> None:
    """Save a model to a temporary folder, and move it into place with all that belongs to it.

    Args:
        place: Its folder.
        save: Writes what the engine loads.
        complete: Writes what else is to be in the folder, and returns the record.
        learnt: Record of its lines.

    Raises:
        OSError: The folder exists meanwhile, or the disk is full.
    """
    models = place.folder.parent
    models.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=models, prefix=f".{place.name}.") as partial:
        saving = Path(partial, place.name)
        saving.mkdir()
        save(saving)
        write_record(saving, complete(LocalModel(place.name, saving)))
        write_learnt(saving, learnt)
        make_readable(models, saving, *saving.rglob("*"))
        saving.rename(place.folder)
