"""The models page: what is in the folder of models, and where the loop stands.

It reads files that the commands write, and changes none: a promotion is a command's, which has a
right that this service has not (docs/decisions/0047-models-page-reads-files.md).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from services.common.domain.trained_models import (
    EMBEDDED,
    LARGEST_RECORD,
    LOOP,
    POINTER,
    RECORD,
    CalibrationFit,
    Loop,
    Promotion,
    Promotions,
    TrainedRecord,
    in_service,
)
from services.common.runtime.files import FileTooLargeError, read_bounded
from services.common.runtime.periodic import periodic
from services.review.metrics import LOOP_ANNOTATIONS, LOOP_CALL, LOOP_STAGE

WATCH_SECONDS = 30.0

Model = TrainedRecord[CalibrationFit]
Kind = TypeVar("Kind", bound=BaseModel)


class LoopStage(StrEnum):
    """State of the loop."""

    OFF = "off"
    """It was never called."""
    WAITING = "waiting"
    """For annotations."""
    EXPORT = "export"
    TRAIN = "train"
    CHECK = "check"
    UNDECIDED = "undecided"
    """For annotations, as its last model was refused before it was compared."""
    PERSON = "person"
    """Its model waits for its promotion."""


@dataclass(frozen=True)
class ModelsFolder:
    """Content of the folder of models."""

    models: Sequence[Model] = ()
    """The last trained first."""
    promotions: Sequence[Promotion] = ()
    """The latest first."""
    loop: Loop | None = None
    problems: Sequence[str] = ()
    """Files that can't be read."""

    @property
    def promoted(self) -> str:
        """Name of the model in service, unless a setting names another one."""
        valid = in_service(self.promotions[::-1])
        return valid.model if valid else EMBEDDED

    @property
    def stage(self) -> LoopStage:
        """State of the loop."""
        if self.loop is None:
            return LoopStage.OFF
        current = self.loop.round
        if current is None:
            return LoopStage.WAITING
        if current.step is not None:
            return LoopStage(current.step)
        found = next((each for each in self.models if each.model == current.name), None)
        decision = found.decision if found else None
        if current.undecided and decision is None:
            return LoopStage.UNDECIDED
        was_promoted = any(each.model == current.name for each in self.promotions)
        is_good = decision is not None and not decision.problems
        return LoopStage.PERSON if is_good and not was_promoted else LoopStage.WAITING


def read_models(folder: Path) -> ModelsFolder:
    """Read the folder; files that can't be read are left out, and named."""
    problems: list[str] = []
    found = [_read(file, Model, problems) for file in folder.glob(f"*/{RECORD}")]
    promotions = _read(folder / POINTER, Promotions, problems)
    return ModelsFolder(
        models=sorted(filter(None, found), key=lambda each: each.trained_at, reverse=True),
        promotions=promotions.promotions[::-1] if promotions else [],
        loop=_read(folder / LOOP, Loop, problems),
        problems=problems,
    )


async def watch_loop(folder: Path, stop: asyncio.Event) -> None:
    """Show where the loop stands in the metrics until ``stop`` is set."""

    async def show() -> None:
        found = await asyncio.to_thread(read_models, folder)
        for stage in LoopStage:
            LOOP_STAGE.labels(stage).set(stage is found.stage)
        if found.loop is not None:
            LOOP_ANNOTATIONS.set(found.loop.new)
            LOOP_CALL.set(found.loop.at.timestamp())

    await periodic(show, stop, seconds=WATCH_SECONDS)


def _read(file: Path, kind: type[Kind], problems: list[str]) -> Kind | None:
    try:
        return kind.model_validate_json(read_bounded(file, LARGEST_RECORD))
    except FileNotFoundError:
        return None
    except FileTooLargeError as error:
        problems.append(f"{file}: {error}")
        return None
    except (OSError, ValidationError) as error:
        problems.append(f"{file}: {type(error).__name__}")
        return None
