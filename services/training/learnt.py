"""Record of the images that a model was trained on: a compressed file in its folder."""

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

from app.engines.model_record import read_record
from app.engines.models_folder import find_model
from services.training.lines import Line

LEARNT = "learnt.json.gz"


@dataclass(frozen=True)
class Learnt:
    """Lines that a model was trained on, also before, as its base."""

    images: frozenset[str] = frozenset()
    """SHA-256 of each."""
    groups: frozenset[str] = frozenset()
    """SHA-256 of the name of each, as a name may be of a person."""
    is_complete: bool = True
    """Whether all its trainings are recorded."""

    @classmethod
    def of(cls, lines: Iterable[Line]) -> Self:
        """Return the record of training lines."""
        known = [(line.name, _digest(line.group)) for line in lines]
        return cls(frozenset(image for image, _ in known), frozenset(group for _, group in known))

    def __or__(self, other: "Learnt") -> "Learnt":
        """Return the union."""
        is_complete = self.is_complete and other.is_complete
        return Learnt(self.images | other.images, self.groups | other.groups, is_complete)

    def of_known_groups(self, lines: Sequence[Line]) -> list[Line]:
        """Return the lines whose group has lines that were learnt."""
        return [line for line in lines if _digest(line.group) in self.groups]


def learnt_by(name: str, models: Path) -> Learnt:
    """Return what a model of the models folder has learnt from here; nothing for any other."""
    found = find_model(name, models)
    if found is None or read_record(found.folder) is None:
        return Learnt()
    try:
        known = json.loads(gzip.decompress((found.folder / LEARNT).read_bytes()))
    except FileNotFoundError:  # of an earlier version
        return Learnt(is_complete=False)
    return Learnt(frozenset(known["images"]), frozenset(known["groups"]), known["is_complete"])


def write_learnt(folder: Path, learnt: Learnt) -> None:
    """Write the record into the folder of a model."""
    known = {
        "images": sorted(learnt.images),
        "groups": sorted(learnt.groups),
        "is_complete": learnt.is_complete,
    }
    (folder / LEARNT).write_bytes(gzip.compress(json.dumps(known).encode(), mtime=0))


def _digest(group: str) -> str:
    return sha256(group.encode()).hexdigest()
