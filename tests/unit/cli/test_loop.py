"""Rounds of ``docreco loop``: when they begin, and how they go on."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.cli.errors import CommandError, ExitStatus
from services.cli.loop import MOST_REFUSALS, Ended, _docreco, alone, begin, finish
from services.common.domain.trained_models import LOOP


class Commands:
    """Notes commands; those that are to fail return their status once."""

    def __init__(self, **statuses: int) -> None:
        self.statuses = statuses
        self.called: list[str] = []

    async def __call__(self, arguments: Sequence[str]) -> Ended:
        name = arguments[1] if arguments[0] == "models" else arguments[0]
        self.called.append(name)
        return Ended(self.statuses.pop(name, 0), "1 annotated lines are held out")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OCR_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


async def test_round_begins_with_enough_new_annotations(models: Path) -> None:
    assert begin(models, 199, new=200).round is None
    first = begin(models, 200, new=200)
    assert first.round is not None
    assert (first.round.base, first.round.step) == ("ppocrv6", "export")
    commands = Commands(check=1)  # not better: nothing failed

    await finish(models, first, models / "sets", ["--collection", "letters"], commands)

    assert commands.called == ["export", "train", "check"]
    waiting = begin(models, 399, new=200)
    assert (waiting.new, waiting.round) == (199, first.round)
    assert begin(models, 400, new=200).round != first.round


async def test_interrupted_round_goes_on_where_it_was(models: Path) -> None:
    first = begin(models, 200, new=200)
    assert first.round is not None
    commands = Commands(train=4)
    with pytest.raises(CommandError, match=r"docreco train .* failed \(4\)"):
        await finish(models, first, models / "sets", [], commands)

    again = begin(models, 0, new=200)
    assert again.round == first.round
    (models / first.round.name).mkdir()  # trained, but killed before that was noted
    await finish(models, again, models / "sets", [], commands)
    assert commands.called == ["export", "train", "check"]

    (models / LOOP).write_text("{")
    with pytest.raises(CommandError, match="can't be read"):
        begin(models, 200, new=200)


@pytest.mark.parametrize("step", ["train", "check"])
async def test_step_refused_twice_ends_the_round(models: Path, step: str) -> None:
    state = begin(models, 200, new=200)
    assert state.round is not None
    commands = Commands(**{step: ExitStatus.REFUSED})
    with pytest.raises(CommandError, match=r"failed \(4\)"):
        await finish(models, state, models / "sets", [], commands)
    again = begin(models, 399, new=200)
    assert again.round is not None
    assert again.round.step == step
    commands.statuses = {step: ExitStatus.REFUSED}

    await finish(models, again, models / "sets", [], commands)

    assert commands.called.count(step) == MOST_REFUSALS
    assert again.round.undecided == "1 annotated lines are held out"
    waiting = begin(models, 399, new=200)
    assert (waiting.new, waiting.round) == (199, again.round)
    following = begin(models, 400, new=200).round
    assert following is not None
    assert (following.step, following.undecided) == ("export", "")


@pytest.mark.usefixtures("models")
async def test_error_of_a_command_is_known(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with alone(tmp_path) as lock:
        ended = await _docreco(lock, ["models", "show", "nothing"])

    assert ended.status == ExitStatus.REFUSED
    assert "no model nothing" in ended.error
    assert ended.error in capfd.readouterr().err


def test_two_calls_never_work_at_once(models: Path) -> None:
    with alone(models), pytest.raises(CommandError, match="at work"), alone(models):
        pass
    with alone(models) as lock:
        training = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(lock,))  # noqa: S607
    # As if the loop were killed, and its training not
    with training, pytest.raises(CommandError, match="at work"), alone(models):
        pass
    with alone(models):
        pass
