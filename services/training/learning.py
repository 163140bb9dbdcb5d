"""The story of a training, top to bottom: read the export, measure, train, register, measure."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from app.engines.trocr import Checkpoint
from services.datasets.manifest import FILE, Manifest
from services.training.lines import TRAIN, VALIDATION, Export, UnusableExportError, read_export
from services.training.measuring import Measure, measure
from services.training.model import new_model, open_model
from services.training.registering import check_is_free, register
from services.training.training import (
    Course,
    Plan,
    Progress,
    can_write,
    chosen_device,
    fine_tune,
    use_few_threads_for,
)


@dataclass(frozen=True)
class Learned:
    """What came of a training."""

    model: str
    """What ``OCR_TROCR_MODEL`` is set to."""
    model_version: str
    """What its predictions carry."""
    start: str
    """What was trained."""
    epochs: int
    best_epoch: int
    seed: int
    device: str
    images: dict[str, int]
    """By split."""
    left_out: int
    """Of train: their texts have characters that the model can't write."""
    course: Course
    read: dict[str, tuple[Measure, Measure]]
    """By split: before and after, the latter by the folder as the OCR API loads it."""


def learn(
    folder: Path,
    out: Path,
    *,
    start: str | None,
    epochs: int,
    batch: int,
    learning_rate: float,
    seed: int,
    device: str,
    progress: Progress,
) -> Learned:
    """Train a model on an export, and put it into ``out``.

    Args:
        folder: An export, as hf or parquet.
        out: The new model's folder.
        start: A checkpoint to fine-tune; None: a tiny model with random weights.
        epochs: Passes over the images.
        batch: Images of a step.
        learning_rate: The highest.
        seed: Of the random weights and the order of the images.
        device: ``cpu``, ``cuda`` or ``auto``.
        progress: Who is told how far it is.

    Raises:
        PermanentError: The export can't be used, or ``out`` is there.
        OSError: There is no such checkpoint, or the disk takes no more.
        ValueError: There is no such device.
    """
    check_is_free(out)
    plan = Plan(epochs, batch, learning_rate, seed, chosen_device(device))
    export = read_export(folder)
    torch.manual_seed(seed)
    checkpoint = _begin(start, export)
    use_few_threads_for(checkpoint)
    lines = [line for line in export.train if can_write(checkpoint, line.text)]
    if not lines:
        raise UnusableExportError(f"{checkpoint.version} can write no text of {folder}")
    before = _read(checkpoint, export)
    course = fine_tune(checkpoint, lines, export.validation, plan, progress)
    model = register(checkpoint, out, _card(folder, export.manifest, len(lines), checkpoint, plan))
    trained = open_model(str(out))
    after = _read(trained, export)
    return Learned(
        model=model.name,
        model_version=trained.version,
        start=checkpoint.version,
        epochs=epochs,
        best_epoch=course.best_epoch,
        seed=seed,
        device=plan.device,
        images={split: len(lines) for split, lines in export.lines.items()},
        left_out=len(export.train) - len(lines),
        course=course,
        read={split: (before[split], after[split]) for split in before},
    )


def _begin(start: str | None, export: Export) -> Checkpoint:
    if start is None:
        return new_model([line.text for line in export.train])
    return open_model(start)


def _read(checkpoint: Checkpoint, export: Export) -> dict[str, Measure]:
    lines = {TRAIN: export.train, VALIDATION: export.validation}
    return {split: measure(checkpoint, each) for split, each in lines.items() if each}


def _card(folder: Path, manifest: Manifest, images: int, checkpoint: Checkpoint, plan: Plan) -> str:
    """Return what a person has to know who finds the model: above all, which images are in it."""
    digest = hashlib.sha256((folder / FILE).read_bytes()).hexdigest()
    return (
        "# A recogniser of text lines\n\n"
        f"Trained by `docreco train` on {images} images of an export of "
        f"{manifest.created_at:%Y-%m-%d} (sha256 of its {FILE}: `{digest}`), from "
        f"{checkpoint.version}: {plan.epochs} epochs of batches of {plan.batch}, learning rate "
        f"{plan.learning_rate}, seed {plan.seed}.\n\n"
        "Keep that manifest: it says which images this model has learnt from, where they came "
        "from, and by its split which ones may measure it.\n"
    )
