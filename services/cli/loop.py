"""``docreco loop``: export, train and check when there are enough new annotations.

It runs other commands, one after the other, and notes each that has ended in ``loop.json`` in the
folder of models: started again, it goes on where it was. A person promotes.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict, ValidationError

from app.engines.model_record import read_record
from app.engines.models_folder import write_shared
from app.engines.settings import ModelsSettings
from services.cli.errors import CommandError, ExitStatus
from services.cli.limits import limited, require_some
from services.cli.options import tabular
from services.cli.output import Output, run
from services.cli.promote import promotions_document
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import open_database
from services.common.domain.image_filter import ImageFilter, Limits
from services.common.domain.records import Quality
from services.common.runtime.settings import MongoSettings

STATE = "loop.json"
STEPS = ("export", "train", "check")

Step = Callable[[Sequence[str]], Awaitable[int]]
"""Runs ``docreco`` with arguments; returns its exit status."""


class Round(BaseModel):
    """A model on its way, or the last one."""

    model_config = ConfigDict(extra="forbid")

    name: str
    base: str
    labels: int
    """Annotated images when it began."""
    done: list[str] = []
    """Steps that have ended."""


@tabular
@limited
def loop(
    *,
    limits: Limits,
    new: Annotated[
        int, typer.Option(min=1, help="Begin with this number of annotations since the last model.")
    ] = 200,
    sets: Annotated[Path, typer.Option(help="Folder of the exports.")] = Path("sets"),
    output: Output,
) -> None:
    """Export, train and check a model if there are enough new annotations; a person promotes it.

    Call it from a schedule. After an interruption it goes on where it was.
    """

    async def work() -> ExitStatus:
        async with open_database(MongoSettings()) as database:
            images = ImageRepository(database.images)
            await require_some(images, limits)
            where = ImageFilter(limits, status=("predicted",), annotated=Quality.OK)
            labels = await images.count(where)
        models = ModelsSettings().models
        current = begin(models, labels, new=new)
        if current is None:
            words = f"Less than {new} of {labels} annotations are new: nothing to do."
            output.print({"model": None, "annotations": labels}, words)
            return ExitStatus.OK
        await finish(models, current, sets, _options(limits), _docreco)
        record = read_record(models / current.name)
        decision = record.decision if record else None
        problems = decision.problems if decision else ["it was not checked"]
        words = f"docreco models promote {current.name} --reason WHY puts it into service."
        if problems:
            words = f"{current.name} is not to be promoted: {'; '.join(problems)}."
        output.print({"model": current.name, "annotations": labels, "problems": problems}, words)
        return ExitStatus.OK

    run(output, work)


def begin(models: Path, labels: int, *, new: int) -> Round | None:
    """Return the round to go on with, or a new one; None: there are too few new annotations.

    Raises:
        CommandError: The state is damaged.
    """
    file = models / STATE
    try:
        last = Round.model_validate_json(file.read_bytes()) if file.exists() else None
    except (OSError, ValidationError) as error:
        raise CommandError(f"{file} can't be read: {error}", status=ExitStatus.REFUSED) from error
    if last is not None and len(last.done) < len(STEPS):
        return last
    if labels - (last.labels if last else 0) < new:
        return None
    base = promotions_document()["in_service"]
    return Round(name=f"loop-{datetime.now(UTC):%Y%m%d-%H%M%S}", base=base, labels=labels)


async def finish(
    models: Path, current: Round, sets: Path, limits: Sequence[str], docreco: Step
) -> None:
    """Run the steps that are left.

    Raises:
        CommandError: One failed; the next call repeats it.
    """
    name, export = current.name, str(sets / current.name)
    commands = {
        "export": ["export", "--format", "hf", "--only-annotated", "--out", export, *limits],
        "train": ["train", export, "--name", name, "--base", current.base],
        "check": ["models", "check", name, export],
    }
    _write(models, current)
    for step in STEPS[len(current.done) :]:
        is_trained = step == "train" and (models / name).exists()
        status = 0 if is_trained else await docreco(commands[step])
        if status and (step, status) != ("check", ExitStatus.INCOMPLETE):
            raise CommandError(
                f"docreco {' '.join(commands[step])} failed ({status})",
                status=ExitStatus.INCOMPLETE,
                hint=f"docreco loop goes on with it; delete {models / STATE} to begin anew.",
            )
        current.done.append(step)
        _write(models, current)


def _write(models: Path, current: Round) -> None:
    models.mkdir(parents=True, exist_ok=True)
    write_shared(models / STATE, current.model_dump_json(indent=2) + "\n")


def _options(limits: Limits) -> list[str]:
    given = limits.model_dump(mode="json", exclude_none=True, exclude={"where"})
    options = [part for name, value in given.items() for part in (f"--{name}", value)]
    return [*options, *(part for each in limits.where for part in ("--where", each))]


async def _docreco(arguments: Sequence[str]) -> int:
    """Run a command that writes to standard error alone, as standard output is the answer's."""
    command = [sys.executable, "-m", "services.cli.main", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=sys.stderr)
    return await process.wait()
