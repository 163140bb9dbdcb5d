"""Train a model: read the export, measure, train, measure, register."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.engines.base import Engine
from app.engines.calibration import Calibration
from app.engines.fitting import LINES, fit_accuracy, fit_best
from app.engines.model_record import ModelRecord, read_record, write_record
from app.engines.models_folder import LocalModel, find_model
from app.engines.settings import ModelsSettings
from services.common.domain.trained_models import CALIBRATION_MARK, QualityChange, Training
from services.datasets.manifest import FILE
from services.training.checkpoint import CheckpointFile, checkpoint_path
from services.training.chosen_lines import ChosenLines, choose_lines
from services.training.course import Course
from services.training.learnt import Learnt, learnt_by, write_learnt
from services.training.lines import (
    VALIDATION,
    TrainingLine,
    UnusableExportError,
    read_export,
    sources_of,
)
from services.training.measuring import LineReading, measure, read_lines
from services.training.plan import TrainingPlan, chosen_device
from services.training.registering import free_place, staged
from services.training.trainee import Trainee, open_base
from services.training.training import FineTuning, ProgressDisplay

CHECKPOINT_FORMAT = 3
"""Of the state in a checkpoint, which no version of another format resumes."""
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
    unannotated: int
    """Skipped validation lines, whose labels are predictions."""
    known: int
    """Skipped validation lines, which the base was trained on."""
    is_base_known: bool
    """Whether all is recorded that the base was trained on; else more of them may be of that."""
    before: dict[str, list[LineReading]]
    """By split."""
    after: dict[str, list[LineReading]]

    @property
    def has_failed(self) -> bool:
        """Whether the training diverged, or made nothing better."""
        return self.course.has_diverged or not self.record.best_epoch

    @property
    def kept(self) -> str:
        """The kept weights, in words, with what went wrong and what to do."""
        words = f"the weights of {self.record.kept}"
        if VALIDATION not in self.record.metrics:
            words += ", as no annotated line is held out"
        elif not self.is_base_known:
            words += "; it is not recorded by which lines the base was trained: it may have learnt "
            words += "those of validation"
        if self.course.has_diverged:
            what = "was not finite" if self.course.is_broken else "rose"
            rate = self.record.settings["learning_rate"]
            words += f"; the loss {what}: train with a lower --learning-rate than {rate:g}"
        return words


def learn(
    folder: Path,
    name: str,
    *,
    base: str,
    rehearsal: Sequence[Path],
    plan: TrainingPlan,
    progress: ProgressDisplay,
    page: tuple[str, Callable[["Learned"], str]] | None = None,
) -> Learned:
    """Train a model on an export, and save it to the folder of models.

    Args:
        folder: An export.
        name: Of the new model.
        base: What it starts from, see ``open_base``.
        rehearsal: Earlier exports; some of their lines are included against forgetting.
        plan: How to train; the device may be ``auto``, and the learning rate 0: the usual one.
        progress: Shows its stages, steps and epochs.
        page: File in the model's folder, and what returns its text.

    Raises:
        PermanentError: The export can't be used, or the name.
        OSError: The base does not exist, or the disk is full.
        ValueError: The device does not exist.
    """
    place, models = free_place(name), ModelsSettings().models
    progress.stage("reading the export")
    export, old = read_export(folder), [read_export(each) for each in rehearsal]
    torch.manual_seed(plan.seed)
    trainee = open_base(base, export.characters)
    plan = replace(
        plan,
        device=chosen_device(plan.device),
        learning_rate=plan.learning_rate or trainee.usual_learning_rate,
    )
    earlier, history = learnt_by(base, models), _history(base)  # another may have its name later
    lines = choose_lines(export, old, trainee, earlier, seed=plan.seed)
    if not lines.new:
        raise UnusableExportError(f"{trainee.version} can write no text of {folder}")
    validation = lines.measured[VALIDATION]
    before = _read(trainee.engine(), lines.measured, "the base", progress)
    trainee.expect([])
    identity = _identity([folder, *rehearsal], lines, trainee, plan)
    checkpoint = CheckpointFile(checkpoint_path(models, name), identity)
    course = FineTuning(
        trainee, lines.all, validation, plan, checkpoint=checkpoint, progress=progress
    ).run()
    progress.stage("trying a language model")
    has_language = _use_language(trainee, lines)
    after = _read(trainee.engine(), lines.measured, "the new model", progress)
    record = _record(
        *(name, folder, trainee, lines, course),
        settings=asdict(plan) | {"has_language": has_language},
        metrics={split: _change(before[split], after[split]) for split in after},
        history=history,
    )
    with staged(place) as saved:
        trainee.save(saved.folder)
        record, version = _calibrated(saved, record, after.get(VALIDATION, []))
        learned = Learned(
            place=place,
            model_version=version,
            is_for_default_engine=saved.is_for_default_engine,
            device=plan.device,
            record=record,
            course=course,
            left_out=len(export.train) - len(lines.new),
            unannotated=export.unannotated,
            known=lines.known,
            is_base_known=earlier.is_complete,
            before=before,
            after=after,
        )
        if page is not None:
            (saved.folder / page[0]).write_text(page[1](learned), encoding="utf-8")
        write_record(saved.folder, record)
        write_learnt(saved.folder, Learnt.of(lines.all, validation) | earlier)
    checkpoint.delete()
    return learned


def _record(
    name: str,
    folder: Path,
    trainee: Trainee,
    lines: ChosenLines,
    course: Course,
    *,
    settings: dict[str, Any],
    metrics: dict[str, QualityChange],
    history: list[Training],
) -> ModelRecord:
    return ModelRecord(
        model=name,
        base=trainee.version,
        trained_at=datetime.now(UTC),
        export_sha256=_digest(folder),
        images=lines.counts,
        licences=lines.licences,
        settings=settings,
        epochs=len(course.epochs),
        best_epoch=course.best_epoch,
        added_characters="".join(trainee.added),
        metrics=metrics,
        history=history,
    )


def _use_language(trainee: Trainee, lines: ChosenLines) -> bool:
    """Let the engine prefer texts like those learnt, if that reads the validation split better."""
    plain = trainee.engine()
    if not trainee.expect([line.text for line in lines.all]):
        return False
    rates = [
        sum(each.errors for each in read_lines(engine, lines.measured[VALIDATION]))
        for engine in (plain, trainee.engine())
    ]
    if rates[1] < rates[0]:
        return True
    trainee.expect([])
    return False


def _read(
    engine: Engine, lines: dict[str, Sequence[TrainingLine]], model: str, progress: ProgressDisplay
) -> dict[str, list[LineReading]]:
    progress.stage(f"measuring {model}")
    return {split: read_lines(engine, each) for split, each in lines.items() if each}


def _change(before: Sequence[LineReading], after: Sequence[LineReading]) -> QualityChange:
    return QualityChange(before=measure(before), after=measure(after))


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / FILE).read_bytes()).hexdigest()


def _identity(
    folders: Sequence[Path], lines: ChosenLines, trainee: Trainee, plan: TrainingPlan
) -> str:
    """Return what a checkpoint belongs to: lines that it has learnt must not measure later."""
    digests = [_digest(folder) for folder in folders]
    names = [[line.name for line in each] for each in (lines.all, lines.measured[VALIDATION])]
    known = [CHECKPOINT_FORMAT, digests, names, trainee.version, asdict(plan)]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _history(base: str) -> list[Training]:
    model = find_model(base, ModelsSettings().models)
    record = read_record(model.folder) if model else None
    if record is None:
        return []
    return [*record.history, Training.model_validate(record.model_dump())]


def _calibrated(
    saved: LocalModel, record: ModelRecord, readings: Sequence[LineReading]
) -> tuple[ModelRecord, str]:
    """Calibrate a model of the default engine on held-out lines; return its version."""
    version = f"{saved.name}@{saved.content_hash}"
    if not saved.is_for_default_engine:
        return record, version
    version += "+onnxruntime-f32"
    readings = [each for each in readings if each.text]  # others have no probability
    if len(readings) < FEWEST_TO_CALIBRATE:
        return record, version
    scores = np.array([each.score for each in readings])
    is_right = np.array([float(not each.errors) for each in readings])
    lengths = np.array([len(each.text) for each in readings])
    groups = sources_of(each.line for each in readings)
    fitted = fit_best(scores, is_right, lengths, methods=LINES, groups=groups)
    if fitted.is_at_bound or not fitted.is_better:
        return record, version
    calibration = Calibration(
        curve=fitted.curve,
        model_version=version,
        n=len(readings),
        fitted_at=record.trained_at,
        ece_before=fitted.ece_before,
        ece_after=fitted.ece_after,
        accuracy=fit_accuracy(scores, np.array([each.accuracy for each in readings])),
    )
    record = record.model_copy(update={"calibration": calibration})
    return record, f"{version}{CALIBRATION_MARK}{calibration.hash}"
