"""``docreco train``: fine-tune a recogniser on an export; register the model."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from services.cli.errors import CommandError, ExitStatus
from services.cli.models import EXTRA
from services.cli.output import Output, cell, run, table
from services.cli.watch import progress_bar
from services.common.domain.errors import PermanentError

if TYPE_CHECKING:
    from services.training.learning import Learned

EPOCHS = 60
RATE_FROM_NOTHING, RATE_FROM_A_CHECKPOINT = 2e-3, 5e-5
"""The latter as in TrOCR's own fine-tuning."""


def train(
    export: Annotated[Path, typer.Argument(help="Folder of docreco export --format hf|parquet.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder of the new model, such as .models/lines-1.")],
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="MODEL", help="Base model: a folder, or the name of a local model."
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images.")] = EPOCHS,
    batch: Annotated[int, typer.Option(min=1, help="Images per step (batch size).")] = 16,
    learning_rate: Annotated[
        float | None,
        typer.Option(min=0, help="Peak learning rate; default 0.002, with --from 0.00005."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Fine-tune a recogniser on an export, and show its error rates before and after."""
    output = Output(as_json=as_json)
    usual = RATE_FROM_NOTHING if start is None else RATE_FROM_A_CHECKPOINT

    async def work() -> ExitStatus:
        learn = _load_training()
        begun = time.monotonic()
        with _refusals(), _bar(output.asides) as progress:
            learned = learn(
                export,
                out,
                start=start,
                epochs=epochs,
                batch=batch,
                learning_rate=learning_rate or usual,
                seed=seed,
                device=device,
                progress=progress,
            )
        seconds = round(time.monotonic() - begun, 1)
        answer = {**asdict(learned), "out": str(out), "seconds": seconds}
        output.answer(answer, *_for_people(learned, out, seconds))
        return ExitStatus.OK

    run(output, work)


def _load_training() -> "Callable[..., Learned]":
    """Import the training code here, as torch takes seconds to load."""
    try:
        from services.training.learning import learn  # noqa: PLC0415
    except ImportError as error:
        raise CommandError(
            f"{error.name} is not installed",
            status=ExitStatus.UNAVAILABLE,
            hint=f"Run {EXTRA}, with its development packages.",
        ) from error
    return learn


@contextmanager
def _bar(console: Console) -> Iterator[Callable[[int, int, str], None]]:
    with progress_bar(console) as bar:
        task = bar.add_task("training", total=None, words="")
        yield lambda done, total, words: bar.update(task, completed=done, total=total, words=words)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (PermanentError, OSError, ValueError) as error:
        raise CommandError(str(error), status=ExitStatus.REFUSED) from error


def _for_people(learned: "Learned", out: Path, seconds: float) -> list[Any]:
    columns = ["split", "images", "CER before", "CER after", "exact before", "exact after"]
    rows = [
        [
            *(cell(split), cell(after.images)),
            *(cell(f"{share:.1%}") for share in (before.cer, after.cer)),
            *(cell(f"{share:.1%}") for share in (before.exact, after.exact)),
        ]
        for split, (before, after) in learned.read.items()
    ]
    title = f"{learned.start}, trained for {seconds:.0f} s"
    kept = f"kept: the weights of epoch {learned.best_epoch} of {learned.epochs}"
    if not learned.course.validation:
        kept += ", as there is no validation split"
    if learned.left_out:
        kept += f"; {learned.left_out} images of train skipped: characters missing in the model"
    settings = f"set OCR_ENGINE=trocr and OCR_TROCR_MODEL={learned.model}"
    return [
        table(title, columns, rows),
        kept,
        f"{learned.model_version} is in {out}: {settings}",
    ]
