"""Train a model: read the export, measure, train, measure, register."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from app.engines.base import Engine
from app.engines.calibration import SUFFIX, Calibration
from app.engines.fitting import fit_best
from app.engines.model_record import Change, ModelRecord, Rates, Training, read_record, write_record
from app.engines.models_folder import LocalModel, find_model
from app.engines.settings import ModelsSettings
from services.datasets.manifest import FILE
from services.training.checkpoint import CheckpointFile
from services.training.lines import (
    TRAIN,
    VALIDATION,
    Export,
    Line,
    UnusableExportError,
    read_export,
)
from services.training.measuring import Reading, measure, read_lines
from services.training.registering import free_place, register
from services.training.trainee import Trainee, open_base
from services.training.training import Course, Plan, Progress, chosen_device, fine_tune

REHEARSED = "rehearsed"
REHEARSAL_SHARE = 0.25
"""Limit of rehearsed lines, as a share of new ones."""
CHECKPOINTS = ".training"
"""Folder of unfinished trainings, in the models folder."""
FEWEST_TO_CALIBRATE = 50


@dataclass(frozen=True)
class Learned:
    """Result of a training."""

    place: LocalModel
    model_version: str
    """Of its predictions."""
    is_for_default_engine: bool
    device: str
    record: ModelRecord
    course: Course
    left_out: int
    """Skipped training lines, as the model lacks characters."""
    before: dict[str, list[Reading]]
    """By split."""
    after: dict[str, list[Reading]]


def learn(
    folder: Path,
    name: str,
    *,
    base: str,
    rehearsal: Sequence[Path],
    plan: Plan,
    progress: Progress,
) -> Learned:
    """Train a model on an export, and save it to the folder of models.

    Args:
        folder: An export.
        name: Of the new model.
        base: What it starts from, see ``open_base``.
        rehearsal: Earlier exports; some of their lines are included against forgetting.
        plan: How to train; the device may be ``auto``, and the learning rate 0: the usual one.
        progress: Called with the progress.

    Raises:
        PermanentError: The export can't be used, or the name.
        OSError: The base does not exist, or the disk is full.
        ValueError: The device does not exist.
    """
    place = free_place(name)
    export, old = read_export(folder), [read_export(each) for each in rehearsal]
    torch.manual_seed(plan.seed)
    trainee = open_base(base, export.characters)
    plan = replace(
        plan,
        device=chosen_device(plan.device),
        learning_rate=plan.learning_rate or trainee.usual_learning_rate,
    )
    lines = [line for line in export.train if trainee.can_write(line.text)]
    if not lines:
        raise UnusableExportError(f"{trainee.version} can write no text of {folder}")
    rehearsed = _rehearsed(old, trainee, most=int(REHEARSAL_SHARE * len(lines)), seed=plan.seed)
    measured = {
        TRAIN: lines,
        VALIDATION: export.validation,
        REHEARSED: [line for each in old for line in each.validation],
    }
    before = _read(trainee.engine(), measured)
    identity = _identity([folder, *rehearsal], trainee, plan)
    checkpoint = CheckpointFile(ModelsSettings().models / CHECKPOINTS / f"{name}.pt", identity)
    course = fine_tune(
        trainee,
        [*lines, *rehearsed],
        export.validation,
        plan,
        checkpoint=checkpoint,
        progress=progress,
    )
    after = _read(trainee.engine(), measured)
    record = ModelRecord(
        model=name,
        base=trainee.version,
        trained_at=datetime.now(UTC),
        export_sha256=_digest(folder),
        images={TRAIN: len(lines), VALIDATION: len(export.validation), REHEARSED: len(rehearsed)},
        licences=sorted({line.licence for line in [*lines, *rehearsed] if line.licence}),
        settings=asdict(plan),
        epochs=len(course.epochs),
        best_epoch=course.best_epoch,
        added_characters="".join(trainee.added),
        metrics={split: _change(before[split], after[split]) for split in after},
        history=_history(base),
    )
    register(place, trainee.save, record)
    checkpoint.delete()
    record, version = _calibrated(place, record, after.get(VALIDATION, []))
    return Learned(
        place=place,
        model_version=version,
        is_for_default_engine=place.is_for_default_engine,
        device=plan.device,
        record=record,
        course=course,
        left_out=len(export.train) - len(lines),
        before=before,
        after=after,
    )


def _rehearsed(old: Sequence[Export], trainee: Trainee, *, most: int, seed: int) -> list[Line]:
    lines = [line for each in old for line in each.train if trainee.can_write(line.text)]
    chosen = np.random.default_rng(seed).permutation(len(lines))[:most]
    return [lines[number] for number in chosen]


def _read(engine: Engine, lines: dict[str, Sequence[Line]]) -> dict[str, list[Reading]]:
    return {split: read_lines(engine, each) for split, each in lines.items() if each}


def _change(before: Sequence[Reading], after: Sequence[Reading]) -> Change:
    pair = [Rates(**asdict(measure(readings))) for readings in (before, after)]
    return Change(before=pair[0], after=pair[1])


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / FILE).read_bytes()).hexdigest()


def _identity(folders: Sequence[Path], trainee: Trainee, plan: Plan) -> str:
    known = [[_digest(folder) for folder in folders], trainee.version, asdict(plan)]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _history(base: str) -> list[Training]:
    model = find_model(base, ModelsSettings().models)
    record = read_record(model.folder) if model else None
    if record is None:
        return []
    return [*record.history, Training.model_validate(record.model_dump())]


def _calibrated(
    place: LocalModel, record: ModelRecord, readings: Sequence[Reading]
) -> tuple[ModelRecord, str]:
    """Calibrate a model of the default engine on held-out lines; return its version."""
    version = f"{place.name}@{place.content_hash}"
    if not place.is_for_default_engine:
        return record, version
    version += "+onnxruntime-f32"
    if len(readings) < FEWEST_TO_CALIBRATE:
        return record, version
    scores = np.array([each.score for each in readings])
    is_right = np.array([float(not each.errors) for each in readings])
    fitted = fit_best(scores, is_right)
    if fitted.is_at_bound or not fitted.is_better:
        return record, version
    calibration = Calibration(
        curve=fitted.curve,
        model_version=version,
        n=len(readings),
        fitted_at=record.trained_at,
        ece_before=fitted.ece_before,
        ece_after=fitted.ece_after,
    )
    record = record.model_copy(update={"calibration": calibration})
    write_record(place.folder, record)
    return record, f"{version}{SUFFIX}{calibration.hash}"
