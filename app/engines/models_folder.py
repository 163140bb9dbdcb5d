"""Models in a folder of this machine: found by name, and told apart by what is in them."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path

from app.engines.weights import TRAINED_FILE

WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.onnx")
"""All that a model is made of: weights, configuration, vocabulary, SentencePiece. Pickled weights
(``*.bin``) run whatever is in them when they are loaded, so they are never wanted."""

CONFIGURATION = "config.json"
RECORD = "model.json"
"""What is known of a model that was trained here: no part of it, since it changes later."""
_HASH_LENGTH = 12


@dataclass(frozen=True)
class LocalModel:
    """A model's folder."""

    name: str
    """Where it is, from the models folder on: ``microsoft/trocr-small-handwritten``."""
    folder: Path

    @property
    def is_for_default_engine(self) -> bool:
        """Whether the engine ``rapidocr`` serves it; else it is one for ``trocr``."""
        return (self.folder / TRAINED_FILE).is_file()

    @property
    def files(self) -> list[Path]:
        """What the model is made of, in a fixed order; downloads' own notes are not."""
        found = {path for pattern in WANTED for path in self.folder.glob(pattern)}
        return sorted(path for path in found if path.is_file() and path.name != RECORD)

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def content_hash(self) -> str:
        """First 12 hexadecimal digits of a SHA-256 over names and contents; reads all of it."""
        whole = sha256()
        for path in self.files:
            with path.open("rb") as file:
                whole.update(f"{path.name} {file_digest(file, 'sha256').hexdigest()}\n".encode())
        return whole.hexdigest()[:_HASH_LENGTH]


def find_model(name: str, models_folder: Path) -> LocalModel | None:
    """Return the model that a folder or a name in the models folder leads to, if there is one."""
    for folder in (models_folder / name, Path(name)):
        if any((folder / file).is_file() for file in (CONFIGURATION, TRAINED_FILE)):
            is_inside = folder.resolve().is_relative_to(models_folder.resolve())
            root = models_folder if is_inside else folder.parent
            return LocalModel(folder.resolve().relative_to(root.resolve()).as_posix(), folder)
    return None


def trained_model(name: str, models_folder: Path) -> LocalModel:
    """Return a model that the engine ``rapidocr`` serves.

    Raises:
        FileNotFoundError: There is none of this name.
    """
    model = find_model(name, models_folder)
    if model is None or not model.is_for_default_engine:
        raise FileNotFoundError(f"{models_folder} has no model {name} with a {TRAINED_FILE}")
    return model


def models_in(models_folder: Path) -> Iterator[LocalModel]:
    """Yield the models of the models folder by name."""
    found = {
        file.parent for name in (CONFIGURATION, TRAINED_FILE) for file in models_folder.rglob(name)
    }
    for folder in sorted(found):
        inside = folder.relative_to(models_folder)
        if not any(part.startswith(".") for part in inside.parts):
            yield LocalModel(inside.as_posix(), folder)
