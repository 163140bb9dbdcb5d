"""Rounds of ``docreco loop``: when they begin, and how they go on."""

import fcntl
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.engines.model_record import ModelRecord, write_record
from services.cli.errors import CommandError, ExitStatus
from services.cli.loop import LOCK, MOST_REFUSALS, Ended, _docreco, alone, begin, finish
from services.cli.main import app
from services.common.domain.trained_models import CHECKPOINTS, LOOP
from tests.factories import decision, model_record


class Commands:
    """Notes commands; those that are to fail return their status once."""

    def __init__(self, **statuses: int) -> None:
        self.statuses = statuses
        self.decides: Path | None = None
        """Model that a check compares."""
        self.called: list[str] = []
        self.epochs: list[str] = []
        """Of trainings."""

    async def __call__(self, arguments: Sequence[str]) -> Ended:
        name = arguments[1] if arguments[0] == "models" else arguments[0]
        self.called.append(name)
        if name == "train":
            self.epochs.append(arguments[arguments.index("--epochs") + 1])
        if name == "export":
            make_folder(arguments[arguments.index("--out") + 1])
        if self.decides and name == "check":
            write_decision(self.decides)
        return Ended(self.statuses.pop(name, 0), "1 annotated lines are held out")


def make_folder(path: str) -> None:
    Path(path).mkdir(parents=True, exist_ok=True)


def write_decision(model: Path) -> None:
    model.mkdir(parents=True, exist_ok=True)
    record = model_record(model=model.name, decision=decision(problems=["not better"]))
    write_record(model, ModelRecord.model_validate(record))


def test_first_call_makes_the_folder_of_models(models: Path) -> None:
    models.rmdir()
    assert begin(models, 199, new=200, epochs=3).round is None
    assert (models / LOOP).exists()


async def test_round_begins_with_enough_new_annotations(models: Path) -> None:
    assert begin(models, 199, new=200, epochs=3).round is None
    first = begin(models, 200, new=200, epochs=3)
    assert first.round is not None
    assert (first.round.base, first.round.step) == ("ppocrv6", "export")
    # Not better: nothing failed
    commands = Commands(check=ExitStatus.INCOMPLETE)
    commands.decides = models / first.round.name

    await finish(models, first, models / "sets", ["--collection", "letters"], commands)

    assert commands.called == ["export", "train", "check"]
    waiting = begin(models, 399, new=200, epochs=3)
    assert (waiting.new, waiting.round) == (199, first.round)
    assert begin(models, 400, new=200, epochs=3).round != first.round


async def test_interrupted_round_goes_on_where_it_was(models: Path) -> None:
    first = begin(models, 200, new=200, epochs=3)
    assert first.round is not None
    commands = Commands(train=4)
    with pytest.raises(CommandError, match=r"docreco train .* failed \(4\)"):
        await finish(models, first, models / "sets", [], commands)

    again = begin(models, 0, new=200, epochs=5)
    assert again.round == first.round
    commands.statuses["train"] = 3
    with pytest.raises(CommandError, match=r"docreco train .* failed \(3\)"):
        await finish(models, again, models / "sets", [], commands)
    assert commands.epochs == ["3", "3"], "another limit would be another training"

    again = begin(models, 0, new=200, epochs=5)
    (models / first.round.name).mkdir()  # trained, but killed before that was noted
    await finish(models, again, models / "sets", [], commands)
    assert commands.called == ["export", "train", "train", "check"]

    (models / LOOP).write_text("{")
    with pytest.raises(
        CommandError, match=r"loop.json can't be read: the file: Invalid JSON[^\n]*$"
    ):
        begin(models, 200, new=200, epochs=3)


@pytest.mark.parametrize("step", ["train", "check"])
async def test_step_refused_twice_ends_the_round(models: Path, step: str) -> None:
    state = begin(models, 200, new=200, epochs=3)
    assert state.round is not None
    commands = Commands(**{step: ExitStatus.REFUSED})
    with pytest.raises(CommandError, match=r"failed \(4\)"):
        await finish(models, state, models / "sets", [], commands)
    again = begin(models, 399, new=200, epochs=3)
    assert again.round is not None
    assert again.round.step == step
    commands.statuses = {step: ExitStatus.REFUSED}

    await finish(models, again, models / "sets", [], commands)

    assert commands.called.count(step) == MOST_REFUSALS
    assert again.round.undecided == "1 annotated lines are held out"
    waiting = begin(models, 399, new=200, epochs=3)
    assert (waiting.new, waiting.round) == (199, again.round)
    following = begin(models, 400, new=200, epochs=3).round
    assert following is not None
    assert (following.step, following.undecided) == ("export", "")


@pytest.mark.parametrize("step", ["export", "train", "check"])
async def test_failing_machine_is_no_refusal(models: Path, step: str) -> None:
    state = begin(models, 200, new=200, epochs=3)
    assert state.round is not None
    commands = Commands()
    for _ in range(MOST_REFUSALS + 1):
        commands.statuses = {step: ExitStatus.UNAVAILABLE}
        with pytest.raises(CommandError, match=r"failed \(3\)") as failed:
            await finish(models, state, models / "sets", [], commands)
        assert failed.value.status == ExitStatus.UNAVAILABLE

    await finish(models, state, models / "sets", [], commands)
    assert state.round.step is None
    assert state.round.undecided == ""


async def test_check_that_breaks_decides_nothing(models: Path) -> None:
    state = begin(models, 200, new=200, epochs=3)
    assert state.round is not None

    with pytest.raises(CommandError, match=r"check .* failed \(1\)"):
        await finish(models, state, models / "sets", [], Commands(check=1))

    assert state.round.step == "check"


async def test_missing_export_is_no_refusal(models: Path, tmp_path: Path) -> None:
    """As when it is called in another folder."""
    state = begin(models, 200, new=200, epochs=3)
    assert state.round is not None
    commands = Commands(train=ExitStatus.UNAVAILABLE)
    with pytest.raises(CommandError):
        await finish(models, state, tmp_path / "sets", [], commands)

    for _ in range(MOST_REFUSALS):
        with pytest.raises(CommandError, match=f"elsewhere/{state.round.name}, .* is gone"):
            await finish(models, state, tmp_path / "elsewhere", [], commands)

    assert commands.called == ["export", "train"]
    assert (state.round.step, state.round.refusals) == ("train", 0)


async def test_undecided_round_leaves_no_checkpoint(models: Path) -> None:
    state = begin(models, 200, new=200, epochs=3)
    assert state.round is not None
    folder = models / CHECKPOINTS
    folder.mkdir()
    for name in (f"{state.round.name}.pt", f"{state.round.name}.partial", "another.pt"):
        (folder / name).touch()
    commands = Commands(train=ExitStatus.REFUSED)
    with pytest.raises(CommandError):
        await finish(models, state, models / "sets", [], commands)
    assert len([*folder.iterdir()]) == 3
    commands.statuses = {"train": ExitStatus.REFUSED}

    await finish(models, state, models / "sets", [], commands)

    assert [each.name for each in folder.iterdir()] == ["another.pt"]


@pytest.mark.parametrize("is_at_work", [True, False])
async def test_training_of_another_process_keeps_its_files(
    models: Path, *, is_at_work: bool
) -> None:
    state = begin(models, 200, new=200, epochs=3)
    assert state.round is not None
    state.round.done, state.round.refusals = ["export"], MOST_REFUSALS - 1
    make_folder(str(models / "sets" / state.round.name))
    folder = models / CHECKPOINTS
    folder.mkdir()
    for suffix in ("pt", "partial", "lock"):
        (folder / f"{state.round.name}.{suffix}").touch()

    with (folder / f"{state.round.name}.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if is_at_work else fcntl.LOCK_UN)
        await finish(models, state, models / "sets", [], Commands(train=ExitStatus.REFUSED))

    assert state.round.undecided
    assert len([*folder.iterdir()]) == (3 if is_at_work else 0)


@pytest.mark.usefixtures("models")
async def test_error_of_a_command_is_known(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    error = tmp_path / "error"
    error.write_text("of before")
    with alone(tmp_path) as lock:
        ended = await _docreco(lock, error, ["models", "show", "nothing"])
        well = await _docreco(lock, error, ["models", "show", "ppocrv6"])

    assert ended.status == ExitStatus.REFUSED
    assert "no model nothing" in ended.error
    assert ended.error in capfd.readouterr().err
    assert well == Ended(ExitStatus.OK)


@pytest.mark.usefixtures("models")
async def test_step_has_the_terminal_and_its_error_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    ours, theirs = pty.openpty()
    with alone(tmp_path) as lock, os.fdopen(theirs, "w") as terminal, os.fdopen(ours, "rb") as seen:
        monkeypatch.setattr(sys, "stderr", terminal)
        ended = await _docreco(lock, tmp_path / "error", ["models", "show", "nothing"])
        shown = seen.read1()

    assert "no model nothing" in ended.error
    # In colours, as a bar is only shown on a terminal
    assert b"\x1b[1;31mError: " in shown


def test_disk_that_refuses_is_no_refusal(models: Path) -> None:
    (models / LOCK).symlink_to(models / LOCK)

    result = CliRunner().invoke(app, ["loop"])

    assert result.exit_code == ExitStatus.UNAVAILABLE
    assert f"Too many levels of symbolic links: '{models / LOCK}'" in result.stderr


def test_two_calls_never_work_at_once(models: Path) -> None:
    models.rmdir()  # there is no model yet
    with alone(models), pytest.raises(CommandError, match="at work"), alone(models):
        pass
    with alone(models) as lock:
        training = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(lock,))  # noqa: S607
    # As if the loop were killed, and its training not
    with training, pytest.raises(CommandError, match="at work"), alone(models):
        pass
    with alone(models):
        pass
