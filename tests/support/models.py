"""Models of the folder of models, by what is recorded of them."""

from collections.abc import Iterable
from pathlib import Path

from app.engines.model_record import ModelRecord, write_record
from app.engines.weights import TRAINED_FILE
from services.training.learnt import Learnt, write_learnt
from tests.factories import model_record


def add_model(models: Path, name: str, *, learnt: Iterable[str] | None) -> None:
    """Add a model that was trained on images, by their SHA-256; None: it is not known on which.

    It can't be loaded.
    """
    folder = models / name
    folder.mkdir(parents=True)
    (folder / TRAINED_FILE).touch()
    write_record(folder, ModelRecord.model_validate(model_record(model=name)))
    if learnt is not None:
        write_learnt(folder, Learnt(images=frozenset(learnt)))
