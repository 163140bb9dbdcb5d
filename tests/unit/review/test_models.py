"""The models page: what it reads of the files that the commands write."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY

from app.engines.model_record import ModelRecord, write_record
from app.engines.models_folder import change_promotions
from services.cli.loop import begin
from services.common.domain.trained_models import (
    LARGEST_RECORD,
    LOOP,
    POINTER,
    RECORD,
    STEPS,
    Act,
    Promotion,
)
from services.review.models import LoopStage, read_models, watch_loop
from tests.factories import decision, model_record

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def write_model(models: Path, name: str, **changes: Any) -> None:
    (models / name).mkdir(exist_ok=True)
    record = ModelRecord.model_validate(model_record(model=name, **changes))
    write_record(models / name, record)


def promote(models: Path, name: str) -> None:
    act = Act(at=NOW, by="ada", reason="better")
    promotion = Promotion(model=name, content_hash="0", promoted=act)
    change_promotions(models, lambda known: [*known, promotion])


def test_models_and_promotions_are_shown_the_latest_first(models: Path) -> None:
    assert (read_models(models).stage, read_models(models).promoted) == (LoopStage.OFF, "ppocrv6")
    write_model(models, "one")
    write_model(models, "two", trained_at=NOW, decision=decision())
    for name in ("one", "two"):
        promote(models, name)

    found = read_models(models)

    assert [each.model for each in found.models] == ["two", "one"]
    assert [each.model for each in found.promotions] == ["two", "one"]
    assert found.promoted == "two"
    (models / POINTER).write_text("{")
    assert read_models(models).problems == [f"{models / POINTER}: ValidationError"]


def test_too_large_record_is_named_and_the_others_shown(models: Path) -> None:
    for name in ("one", "two"):
        write_model(models, name)
    with (models / "one" / RECORD).open("r+b") as file:
        file.truncate(LARGEST_RECORD + 1)

    found = read_models(models)

    assert [each.model for each in found.models] == ["two"]
    assert found.problems == [f"{models / 'one' / RECORD}: larger than 8 MiB, its limit"]


def test_loop_waits_works_and_waits_for_a_person(models: Path) -> None:
    begin(models, 50, new=200, epochs=10)
    stages = [read_models(models).stage]
    begun = begin(models, 200, new=200, epochs=10)
    assert begun.round is not None
    for step in STEPS:
        stages.append(read_models(models).stage)
        begun.round.done.append(step)
        (models / LOOP).write_text(begun.model_dump_json())
    for problems in (["not better"], []):
        write_model(models, begun.round.name, decision=decision(problems=problems))
        stages.append(read_models(models).stage)
    promote(models, begun.round.name)

    assert stages == ["waiting", "export", "train", "check", "waiting", "person"]
    assert read_models(models).stage == "waiting"


def test_loop_that_could_not_decide_waits_for_annotations(models: Path) -> None:
    begun = begin(models, 200, new=200, epochs=10)
    assert begun.round is not None
    begun.round.undecided = "too few lines"
    (models / LOOP).write_text(begun.model_dump_json())

    assert read_models(models).stage == "undecided"
    stages = {}
    for problems in ((), ("not better",)):  # of a check by a person, on more lines
        write_model(models, begun.round.name, decision=decision(problems=[*problems]))
        stages[problems] = read_models(models).stage
    assert stages == {(): "person", ("not better",): "waiting"}


async def test_metrics_say_where_the_loop_stands(models: Path) -> None:
    begin(models, 50, new=200, epochs=10)
    stop = asyncio.Event()
    asyncio.get_running_loop().call_soon(stop.set)

    await watch_loop(models, stop)

    for stage in LoopStage:
        value = REGISTRY.get_sample_value("review_loop_stage", {"stage": stage})
        assert value == (stage is LoopStage.WAITING)
    assert REGISTRY.get_sample_value("review_loop_new_annotations") == 50
    assert json.loads((models / LOOP).read_text())["wanted"] == 200
