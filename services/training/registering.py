"""Save a trained model to the folder of models, atomically."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from app.engines.models_folder import LocalModel, make_readable
from app.engines.settings import ModelsSettings
from services.common.domain.errors import PermanentError
from services.common.domain.trained_models import EMBEDDED

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names of files are made of it, of 255 characters at most."""


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
            f"{name!r} can't be a model's name: use up to 100 letters, digits, '.', '_' and '-', "
            f"no .json at the end, and not {EMBEDDED} at the beginning"
        )
    place = LocalModel(name, ModelsSettings().models / name)
    if place.folder.exists():
        raise UnusableNameError(f"{place.folder} exists already: choose another name, or delete it")
    return place


@contextmanager
def staged(place: LocalModel) -> Iterator[LocalModel]:
    """Move a model into place as a whole, once all of its files are written to what is yielded.

    Raises:
        OSError: The folder exists meanwhile, or the disk is full.
    """
    models = place.folder.parent
    models.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=models, prefix=f".{place.name}.") as partial:
        saving = Path(partial, place.name)
        saving.mkdir()
        yield LocalModel(place.name, saving)
        make_readable(models, saving, *saving.rglob("*"))
        saving.rename(place.folder)
