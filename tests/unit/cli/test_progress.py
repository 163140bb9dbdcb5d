"""Progress of long commands where the output is no terminal, as in a log."""

from io import StringIO
from types import SimpleNamespace

import pytest
from rich.console import Console

from services.cli import progress
from services.cli.progress import progress_bar, status_line, training_progress
from tests.support.virtual_time import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=clock))
    return clock


@pytest.fixture
def console() -> Console:
    return Console(file=StringIO(), width=40, highlight=False)


def lines(console: Console) -> list[str]:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue().splitlines()


def test_log_of_a_bar_has_a_line_now_and_then(clock: Clock, console: Console) -> None:
    with progress_bar(console, every_seconds=30) as bar:
        task = bar.add_task("exporting", total=100, words="to a folder with a long name")
        for _ in range(100):
            clock.now += 1
            bar.advance(task)

    assert lines(console) == [
        "exporting 30 of 100, to a folder with a long name, 2 min left",
        "exporting 60 of 100, to a folder with a long name, 1 min left",
        "exporting 90 of 100, to a folder with a long name, 1 min left",
    ]


def test_log_of_a_bar_may_have_its_last_state(console: Console) -> None:
    with progress_bar(console, shows_end=True) as bar:
        task = bar.add_task("fetching", total=3, words="")
        bar.update(task, completed=3, words="2 stored, 1 failed")

    assert lines(console) == ["fetching 3 of 3, 2 stored, 1 failed"]


def test_short_command_is_quiet_in_a_log(console: Console) -> None:
    with progress_bar(console) as bar, status_line(console, "comparing") as show:
        bar.update(bar.add_task("exporting", total=None, words=""), completed=5)
        show("comparing: 5 objects")

    assert lines(console) == []


def test_log_of_a_status_has_a_line_now_and_then(clock: Clock, console: Console) -> None:
    with status_line(console, "comparing") as show:
        for count in range(100):
            clock.now += 1
            show(f"comparing: {count} [objects]")

    assert lines(console) == [f"comparing: {count} [objects]" for count in (29, 59, 89)]


def test_log_of_a_training_has_its_stages_and_epochs(clock: Clock, console: Console) -> None:
    with training_progress(console) as shown:
        shown.stage("reading the export")
        for step in range(1, 31):
            clock.now += 30
            shown.step(step, 160, "epoch 1")
            if step % 10 == 0:
                shown.epoch(f"epoch {step // 10} of 16: loss 1.0")
        shown.stage("measuring the new model")

    assert lines(console) == [
        "reading the export",
        "epoch 1 of 16: loss 1.0, at most 1 h 15 min left",
        "training, step 20 of 160, epoch 1, 1 h 10 min left",
        "epoch 2 of 16: loss 1.0, at most 1 h 10 min left",
        "epoch 3 of 16: loss 1.0, at most 1 h 5 min left",
        "measuring the new model",
    ]
