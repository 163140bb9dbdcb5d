"""Models of the folder of models, by what is recorded of them."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path

from app.engines.model_record import ModelRecord, write_record
from app.engines.models_folder import LocalModel
from app.engines.weights import CHARACTERS_FILE, TRAINED_FILE
from services.training.learnt import LEARNT, Learnt, write_learnt
from tests.factories import model_record


def add_model(
    models: Path,
    name: str,
    *,
    learnt: Iterable[str] | None,
    chosen_by: Iterable[str] | None = (),
    characters: str = "a\n",
) -> str:
    """Add a model that images have made, by their SHA-256; return its version.

    It can't be loaded. ``learnt`` is None where it is not known on which it was trained, and
    ``chosen_by`` where that alone is recorded, as by an earlier version of the pipeline.
    """
    folder = models / name
    folder.mkdir(parents=True)
    (folder / TRAINED_FILE).touch()
    (folder / CHARACTERS_FILE).write_text(characters)
    write_record(folder, ModelRecord.model_validate(model_record(model=name)))
    if learnt is not None and chosen_by is not None:
        write_learnt(folder, Learnt(images=frozenset(learnt), chosen_by=frozenset(chosen_by)))
    elif learnt is not None:
        known = {"images": sorted(learnt), "groups": [], "is_complete": True}
        (folder / LEARNT).write_bytes(gzip.compress(json.dumps(known).encode()))
    return f"{name}@{LocalModel(name, folder).content_hash}+onnxruntime-f32"
