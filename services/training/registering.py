"""A trained model's way into the folder of models: whole, or not at all."""

import shutil
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from app.engines.models_folder import LocalModel, find_model
from app.engines.settings import ModelsSettings
from app.engines.trocr import Checkpoint
from services.common.domain.errors import PermanentError

CARD = "README.md"
"""No part of a model: another text in it is no other ``model_version``."""

READABLE = 0o644
"""By whichever user the OCR API runs as; safetensors writes files for their owner alone."""


class FolderTakenError(PermanentError):
    """A model's folder is there already."""

    code = "folder_taken"


def check_is_free(out: Path) -> None:
    """Refuse a folder that is there: what was trained for hours is not replaced.

    Raises:
        FolderTakenError: It is there.
    """
    if out.exists():
        raise FolderTakenError(f"{out} is there already: choose another name, or delete it")


def register(checkpoint: Checkpoint, out: Path, card: str) -> LocalModel:
    """Save what the engine ``trocr`` loads beside its place, and move it there.

    Raises:
        FolderTakenError: Something is there meanwhile.
        OSError: The disk takes no more.
    """
    saving = out.with_name(f".{out.name}.partial")
    shutil.rmtree(saving, ignore_errors=True)
    disable_progress_bar()
    checkpoint.model.save_pretrained(saving)
    checkpoint.tokenizer.save_pretrained(saving)
    checkpoint.image_processor.save_pretrained(saving)
    (saving / CARD).write_text(card, encoding="utf-8")
    for file in saving.iterdir():
        file.chmod(READABLE)
    check_is_free(out)
    saving.rename(out)
    return registered(out)


def registered(out: Path) -> LocalModel:
    """Return a model of the models folder, or of any other.

    Raises:
        FileNotFoundError: There is none.
    """
    model = find_model(str(out), ModelsSettings().models)
    if model is None:
        raise FileNotFoundError(f"{out} is no model")
    return model
