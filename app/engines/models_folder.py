"""Models in a folder of this machine: found by name, and told apart by what is in them."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path

WANTED = ("*.safetensors", "*.json", "*.txt", "*.model")
"""All that a model is made of: weights, configuration, vocabulary, SentencePiece. Pickled weights
(``*.bin``) run whatever is in them when they are loaded, so they are never wanted."""

CONFIGURATION = "config.json"
_HASH_LENGTH = 12


@dataclass(frozen=True)
class LocalModel:
    """A model's folder."""

    name: str
    """Where it is, from the models folder on: ``microsoft/trocr-small-handwritten``."""
    folder: Path

    @property
    def files(self) -> list[Path]:
        """What the model is made of, in a fixed order; downloads' own notes are not."""
        found = {path for pattern in WANTED for path in self.folder.glob(pattern)}
        return sorted(path for path in found if path.is_file())

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
        if (folder / CONFIGURATION).is_file():
            is_inside = folder.resolve().is_relative_to(models_folder.resolve())
            root = models_folder if is_inside else folder.parent
            return LocalModel(folder.resolve().relative_to(root.resolve()).as_posix(), folder)
    return None


def models_in(models_folder: Path) -> Iterator[LocalModel]:
    """Yield the models of the models folder by name."""
    for file in sorted(models_folder.rglob(CONFIGURATION)):
        inside = file.parent.relative_to(models_folder)
        if not any(part.startswith(".") for part in inside.parts):
            yield LocalModel(inside.as_posix(), file.parent)
