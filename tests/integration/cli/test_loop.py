"""``docreco loop`` with steps of its own, as a schedule calls it."""

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.cli.errors import ExitStatus
from services.common.domain.trained_models import LOOP, Loop, Round


@pytest.mark.usefixtures("mongo_environment")
async def test_round_that_decides_nothing_is_incomplete_work(models: Path) -> None:
    refused = Round(name="gone", base="ppocrv6", labels=0, done=["export", "train"], refusals=1)
    state = Loop(at=datetime.now(UTC), labels=0, wanted=200, round=refused)
    (models / LOOP).write_text(state.model_dump_json())
    (models / "sets/gone").mkdir(parents=True)

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli.main", "loop", "--json"),
        *("--sets", str(models / "sets")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    answer, errors = await process.communicate()

    assert process.returncode == ExitStatus.INCOMPLETE, errors
    [problem] = json.loads(answer)["problems"]
    assert problem.startswith("not decided: ")
    assert "has no model gone" in problem
    assert b"has no model gone" in errors
    written = Loop.model_validate_json((models / LOOP).read_bytes())
    assert written.round is not None
    assert written.round.undecided in problem
