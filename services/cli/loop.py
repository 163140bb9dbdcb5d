"""``docreco loop``: export, train and check when there are enough new annotations.

It runs other commands, one after the other, and notes each that has ended in ``loop.json`` in the
folder of models: started again, it goes on where it was. A person promotes.
"""

import asyncio
import fcntl
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from pydantic import ValidationError

from app.engines.model_record import read_record
from app.engines.models_folder import write_shared
from app.engines.settings import ModelsSettings
from services.cli.errors import CommandError, ExitStatus
from services.cli.limits import limited, open_images
from services.cli.options import tabular
from services.cli.output import Output
from services.cli.promote import promotions_document
from services.cli.settings import with_error_file
from services.common.domain.image_filter import ImageFilter, Limits
from services.common.domain.records import Quality, first_problem
from services.common.domain.trained_models import LOOP, Loop, PromotionDecision, Round
from services.training.checkpoint import CheckpointFile, TrainingAtWorkError, checkpoint_path

LOCK = ".loop.lock"
_ERROR = ".loop.error"
"""File of the last error of a step, in the folder of models."""

MOST_REFUSALS = 2
"""Of a training or a check on one export, which another call would only repeat."""


class Ended(NamedTuple):
    """The end of a command."""

    status: int
    error: str = ""
    """Its message of an error, if that is known."""


Step = Callable[[Sequence[str]], Awaitable[Ended]]
"""Runs ``docreco`` with arguments."""


@tabular
@limited
async def loop(
    *,
    limits: Limits,
    new: Annotated[
        int, typer.Option(min=1, help="Begin with this number of annotations since the last model.")
    ] = 200,
    epochs: Annotated[int, typer.Option(min=1, help="Limit of epochs of a new model.")] = 16,
    sets: Annotated[Path, typer.Option(help="Folder of the exports.")] = Path("sets"),
    output: Output,
) -> ExitStatus:
    """Export, train and check a model if there are enough new annotations; a person promotes it.

    Call it from a schedule. After an interruption it goes on where it was.
    """
    models = ModelsSettings().models
    with alone(models) as lock:
        async with open_images(limits) as images:
            where = ImageFilter(limits, status=("predicted",), annotated=Quality.OK)
            labels = await images.count(where)
        state = begin(models, labels, new=new, epochs=epochs)
        if state.round is None or state.round.step is None:
            words = f"{state.new} of {new} new annotations: nothing to do."
            output.print({"model": None, "annotations": labels, "new": state.new}, words)
            return ExitStatus.OK
        name, docreco = state.round.name, partial(_docreco, lock, models / _ERROR)
        await finish(models, state, sets, _options(limits), docreco)
    decision, undecided = _decision(models / name), state.round.undecided
    problems = decision.problems if decision else [f"not decided: {undecided}"]
    words = f"docreco models promote {name} --reason WHY puts it into service."
    if problems:
        words = f"{name} is not to be promoted: {'; '.join(problems)}."
    output.print({"model": name, "annotations": labels, "problems": problems}, words)
    return ExitStatus.OK if decision else ExitStatus.INCOMPLETE


def _decision(model: Path) -> PromotionDecision | None:
    """Return the last decision about a model.

    Raises:
        CommandError: Its record is damaged.
    """
    try:
        record = read_record(model)
    except ValueError as error:
        raise CommandError(str(error), status=ExitStatus.REFUSED) from error
    return record.decision if record else None


@contextmanager
def alone(models: Path) -> Iterator[int]:
    """Yield a lock that this command and the one that it runs hold.

    Raises:
        CommandError: Another call is at work.
    """
    models.mkdir(parents=True, exist_ok=True)
    lock = os.open(models / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CommandError(
                f"another docreco loop, or its training, is at work in {models}",
                status=ExitStatus.REFUSED,
                hint="Wait for its end; the review page shows where it is.",
            ) from error
        yield lock
    finally:
        os.close(lock)


def begin(models: Path, labels: int, *, new: int, epochs: int) -> Loop:
    """Note a call, with the round to go on with, or a new one if there are enough annotations.

    Raises:
        CommandError: The state is damaged.
    """
    file = models / LOOP
    try:
        last = Loop.model_validate_json(file.read_bytes()).round if file.exists() else None
    except ValidationError as error:
        raise CommandError(
            f"{file} can't be read: {first_problem(error, whole='the file')}",
            status=ExitStatus.REFUSED,
            hint="Copy it back, or delete it to start again.",
        ) from error
    state = Loop(at=datetime.now(UTC), labels=labels, wanted=new, round=last)
    if (last is None or last.step is None) and state.new >= new:
        base = promotions_document()["in_service"]
        name = f"loop-{state.at:%Y%m%d-%H%M%S}"
        state.round = Round(name=name, base=base, labels=labels, epochs=epochs)
    if state.round and state.round.step and state.round.epochs is None:
        state.round.epochs = epochs
    _write(models, state)
    return state


async def finish(
    models: Path, state: Loop, sets: Path, limits: Sequence[str], docreco: Step
) -> None:
    """Run the steps that are left, until one is refused for the last time.

    Raises:
        CommandError: One failed; the next call repeats it.
    """
    assert state.round is not None  # noqa: S101  the caller checks
    name, base, export = state.round.name, state.round.base, str(sets / state.round.name)
    epochs = str(state.round.epochs)
    commands = {
        "export": ["export", "--format", "hf", "--only-annotated", "--out", export, *limits],
        "train": ["train", export, "--name", name, "--base", base, "--epochs", epochs],
        "check": ["models", "check", name, export],
    }
    while (step := state.round.step) is not None:
        if step != "export" and not await asyncio.to_thread(Path(export).exists):
            raise CommandError(
                f"{export}, which {name} is made from, is gone",
                status=ExitStatus.INCOMPLETE,
                hint="Call it where it was called before, or with the same --sets; "
                f"delete {models / LOOP} to start again.",
            )
        is_trained = step == "train" and (models / name).exists()
        status, error = Ended(0) if is_trained else await docreco(commands[step])
        # The status of a check whose model is not better, and of any command with a bug
        is_decided = (step, status) == ("check", ExitStatus.INCOMPLETE) and _decision(models / name)
        is_done, command = not status or is_decided, f"docreco {' '.join(commands[step])}"
        if is_done:
            state.round.done.append(step)
            state.round.refusals = 0
        elif status == ExitStatus.REFUSED and step != "export":
            state.round.refusals += 1
            if state.round.refusals >= MOST_REFUSALS:
                state.round.undecided = error or f"{command} was refused, and says why"
                _delete_checkpoint(models, name)
        _write(models, state)
        if not is_done and not state.round.undecided:
            is_of_machine = status == ExitStatus.UNAVAILABLE
            raise CommandError(
                f"{command} failed ({status})",
                status=ExitStatus.UNAVAILABLE if is_of_machine else ExitStatus.INCOMPLETE,
                hint=f"docreco loop goes on with it; delete {models / LOOP} to start again.",
            )


def _delete_checkpoint(models: Path, name: str) -> None:
    """Delete what a training that is not gone on with has left, unless it still is at work."""
    with suppress(TrainingAtWorkError):  # such as of a person, which is why it was refused
        CheckpointFile(checkpoint_path(models, name), identity="").delete()


def _write(models: Path, state: Loop) -> None:
    models.mkdir(parents=True, exist_ok=True)
    write_shared(models / LOOP, state.model_dump_json(indent=2) + "\n")


def _options(limits: Limits) -> list[str]:
    given = limits.model_dump(mode="json", exclude_none=True, exclude={"where"})
    options = [part for name, value in given.items() for part in (f"--{name}", value)]
    return [*options, *(part for each in limits.where for part in ("--where", each))]


async def _docreco(lock: int, error: Path, arguments: Sequence[str]) -> Ended:
    """Run a command that writes to standard error alone, as standard output is the answer's.

    Its errors are read from a file: what it is at work on is seen at once, as it has this command's
    own standard error. It holds the lock, too: a training goes on if this command is killed.
    """
    await asyncio.to_thread(error.unlink, missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli.main", *arguments),
        stdout=sys.stderr,
        stderr=sys.stderr,
        pass_fds=(lock,),
        env=with_error_file(error),
    )
    status = await process.wait()
    return Ended(status, await asyncio.to_thread(_read_last, error))


def _read_last(error: Path) -> str:
    """Return the message of an error, of which the file is deleted; empty if there was none."""
    said = error.read_text(encoding="utf-8") if error.exists() else ""
    error.unlink(missing_ok=True)
    return said
