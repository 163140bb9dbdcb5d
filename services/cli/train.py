"""``docreco train``: fine-tune a recogniser on an export; register the model."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.errors import CommandError, ExitStatus, status_of
from services.cli.models import EXTRA
from services.cli.options import tabular
from services.cli.output import Output, Table, cell
from services.cli.progress import training_progress
from services.common.domain.errors import PermanentError
from services.common.domain.texts import number_of
from services.common.domain.trained_models import EMBEDDED

if TYPE_CHECKING:
    from services.training.learning import Learned

REPORT = "report.html"
"""In the model's folder."""


@tabular
async def train(
    export: Annotated[Path, typer.Argument(help="Folder of docreco export, of any format.")],
    *,
    name: Annotated[str, typer.Option(help="Name of the new model, in the folder of models.")],
    base: Annotated[
        str,
        typer.Option(
            help=f"Base model: {EMBEDDED} (the embedded one), a model that was trained here, "
            "or a TrOCR-style checkpoint: a folder, among models or on the hub."
        ),
    ] = EMBEDDED,
    rehearse: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of an earlier export, a part of which is learnt again."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Limit of epochs.")] = 16,
    patience: Annotated[
        int,
        typer.Option(min=1, help="Stop after this number of epochs without a better error rate."),
    ] = 5,
    batch: Annotated[int, typer.Option(min=1, help="Images per step (batch size).")] = 16,
    learning_rate: Annotated[
        float, typer.Option(min=0, help="Peak learning rate; 0: the usual one of the base.")
    ] = 0,
    augment: Annotated[bool, typer.Option(help="Augment the images.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    output: Output,
) -> None:
    """Fine-tune a recogniser on an export, and show its error rates before and after.

    An interrupted training is resumed by the same command.
    """
    learn, plan_of, report = _load_training()
    begun = time.monotonic()
    plan = plan_of(
        epochs=epochs,
        patience=patience,
        batch=batch,
        learning_rate=learning_rate,
        is_augmented=augment,
        seed=seed,
        device=device,
    )
    with _refusals(), training_progress(output.stderr) as progress:
        learned = learn(
            export,
            name,
            base=base,
            rehearsal=rehearse or [],
            plan=plan,
            progress=progress,
            page=(REPORT, report),
        )
    seconds = round(time.monotonic() - begun, 1)
    output.print(_document(learned, seconds), *_render(learned, seconds))


def _load_training() -> "tuple[Callable[..., Learned], Callable[..., Any], Callable[..., str]]":
    """Import the training code here, as torch takes seconds to load."""
    try:
        from services.cli.train_page import training_page  # noqa: PLC0415
        from services.training.learning import learn  # noqa: PLC0415
        from services.training.plan import TrainingPlan  # noqa: PLC0415
    except ImportError as error:
        raise CommandError(
            f"{error.name} is not installed", status=ExitStatus.UNAVAILABLE, hint=f"Run {EXTRA}."
        ) from error
    return learn, TrainingPlan, training_page


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (PermanentError, OSError, ValueError) as error:
        raise CommandError(str(error), status=status_of(error)) from error


def _document(learned: "Learned", seconds: float) -> dict[str, Any]:
    return {
        "model": learned.place.name,
        "model_version": learned.model_version,
        "folder": str(learned.place.folder),
        "device": learned.device,
        "left_out": learned.left_out,
        "unannotated": learned.unannotated,
        "known": learned.known,
        "is_base_known": learned.is_base_known,
        "course": [asdict(each) for each in learned.course.epochs],
        "has_diverged": learned.course.has_diverged,
        "seconds": seconds,
        **learned.record.model_dump(mode="json"),
    }


def _render(learned: "Learned", seconds: float) -> list[Any]:
    record, name = learned.record, learned.place.name
    columns = ["split", "images", "CER before", "CER after", "exact before", "exact after"]
    rows = [
        [
            *(cell(split), cell(change.after.images)),
            *(cell(each.cer, form=".1%") for each in (change.before, change.after)),
            *(cell(each.exact, form=".1%") for each in (change.before, change.after)),
        ]
        for split, change in record.metrics.items()
    ]
    kept = f"kept: {learned.kept}"
    if learned.unannotated:
        kept += f"; {number_of(learned.unannotated, 'image')} of validation skipped: not annotated"
    if learned.known:
        kept += f"; {number_of(learned.known, 'image')} of validation skipped: "
        kept += "the base was trained on them"
    if learned.left_out:
        kept += f"; {number_of(learned.left_out, 'image')} of train skipped: "
        kept += "characters missing in the model"
    if record.added_characters:
        kept += f"; the alphabet grew by {record.added_characters}"
    if record.settings["has_language"]:
        kept += "; it reads with a language model of characters"
    use = (
        f"docreco models check {name} EXPORT, then docreco models promote {name}"
        if learned.is_for_default_engine
        else f"set OCR_ENGINE=trocr and OCR_TROCR_MODEL={name}"
    )
    return [
        Table(f"{record.base}, trained for {seconds:.0f} s", columns, rows),
        cell(kept),
        f"{learned.model_version} is in {learned.place.folder}, with a {REPORT}: {use}",
    ]
