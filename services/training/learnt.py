"""Record of the images that made a model: a compressed file in its folder."""

import gzip
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Self

from app.engines.model_record import read_record
from app.engines.models_folder import LocalModel, find_model, read_limited
from services.training.lines import TrainingLine

LEARNT = "learnt.json.gz"
LARGEST = 2**27
"""Limit in bytes of the record, also once it is decompressed: two million lines."""
_PACKAGED = "rapidocr-"
"""After the name in a version of the embedded model: the package that brings it."""
_DAMAGED = (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, RecursionError)


@dataclass(frozen=True)
class Learnt:
    """Lines that made a model, also before, as its base."""

    images: frozenset[str] = frozenset()
    """SHA-256 of each that it was trained on."""
    groups: frozenset[str] = frozenset()
    """SHA-256 of the name of each, as a name may be of a person."""
    chosen_by: frozenset[str] = frozenset()
    """SHA-256 of each that chose its weights and language model, and fitted its calibration."""
    is_complete: bool = True
    """Whether all its trainings are recorded."""
    is_choice_recorded: bool = True
    """Whether ``chosen_by`` is; earlier versions of the pipeline recorded training lines alone."""

    @classmethod
    def of(cls, lines: Iterable[TrainingLine], validation: Iterable[TrainingLine] = ()) -> Self:
        """Return the record of training lines, and of those that measured meanwhile."""
        lines = [*lines]
        return cls(
            images=frozenset(line.name for line in lines),
            groups=frozenset(_digest(group) for line in lines for group in line.groups),
            chosen_by=frozenset(line.name for line in validation),
        )

    def __or__(self, other: "Learnt") -> "Learnt":
        """Return the union."""
        return Learnt(
            self.images | other.images,
            self.groups | other.groups,
            self.chosen_by | other.chosen_by,
            is_complete=self.is_complete and other.is_complete,
            is_choice_recorded=self.is_choice_recorded and other.is_choice_recorded,
        )

    def of_known_groups(self, lines: Sequence[TrainingLine]) -> list[TrainingLine]:
        """Return the lines of which a group has lines that were learnt."""
        return [line for line in lines if not self.groups.isdisjoint(map(_digest, line.groups))]


def learnt_by(name: str, models: Path) -> Learnt:
    """Return what made a model of the models folder; nothing for any other.

    It is not complete if an earlier version trained the model, or another person, or the record
    can't be read. A TrOCR-style checkpoint without one was made elsewhere, by other images.
    """
    found = find_model(name, models)
    return Learnt() if found is None else _read(found)


def learnt_by_version(model_version: str, models: Path) -> Learnt:
    """Return what made the model of a version that is kept with predictions.

    A name alone does not tell: another model may have it by now. It is not complete where the
    models folder has no model with this very content, as one that was deleted. The embedded model
    has learnt nothing that is stored here, nor has one of the hub, whose name has a slash.
    """
    name, _, content = model_version.partition("+")[0].partition("@")
    if content.startswith(_PACKAGED):
        return Learnt()
    try:
        found = find_model(name, models)
        if found is not None and found.content_hash == content.removesuffix("-int8"):
            return _read(found)
    except OSError:  # such as a name that can't be a file's
        pass
    return Learnt(is_complete="/" in name)


def _read(model: LocalModel) -> Learnt:
    try:
        if read_record(model.folder) is None:
            return Learnt(is_complete=not model.is_for_default_engine)
        with gzip.open(BytesIO(read_limited(model.folder / LEARNT, limit=LARGEST))) as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            return Learnt(is_complete=False)
        known = json.loads(content)
        return Learnt(
            images=frozenset(known["images"]),
            groups=frozenset(known["groups"]),
            chosen_by=frozenset(known.get("chosen_by", ())),
            is_complete=known["is_complete"] is True,
            is_choice_recorded=known.get("is_choice_recorded", "chosen_by" in known),
        )
    except _DAMAGED:
        return Learnt(is_complete=False)


def write_learnt(folder: Path, learnt: Learnt) -> None:
    """Write the record into the folder of a model."""
    known = {
        "images": sorted(learnt.images),
        "groups": sorted(learnt.groups),
        "chosen_by": sorted(learnt.chosen_by),
        "is_complete": learnt.is_complete,
        "is_choice_recorded": learnt.is_choice_recorded,
    }
    (folder / LEARNT).write_bytes(gzip.compress(json.dumps(known).encode(), mtime=0))


def _digest(group: str) -> str:
    return sha256(group.encode()).hexdigest()
