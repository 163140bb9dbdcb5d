"""Progress of long commands: a bar on a terminal; elsewhere, as in a log, a line now and then."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from typing_extensions import override

LINE_SECONDS = 30.0
"""Between two lines of a log."""
TRAINING_LINE_SECONDS = 600.0
"""The same of a training, which has a line for each epoch, too."""


class RateColumn(ProgressColumn):
    """Items per second."""

    @override
    def render(self, task: Task) -> Text:
        """Return the rate of one task."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


class _Log:
    """Prints a line now and then."""

    def __init__(self, console: Console, every_seconds: float = LINE_SECONDS) -> None:
        self._console, self._every_seconds = console, every_seconds
        self._due_at = time.monotonic() + every_seconds

    @property
    def is_due(self) -> bool:
        """Whether a line may be printed again."""
        return time.monotonic() >= self._due_at

    def show(self, *words: str) -> None:
        """Print words if a line is due."""
        if self.is_due:
            self._due_at = time.monotonic() + self._every_seconds
            print_line(self._console, *words)


class _Lines(Progress):
    """Prints a line now and then instead of a bar."""

    def __init__(self, console: Console, every_seconds: float, *, shows_end: bool) -> None:
        super().__init__(console=console, disable=True, get_time=time.monotonic)
        self._log = _Log(console, every_seconds)
        self._shows_end = shows_end

    @override
    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._show(task_id)

    @override
    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._show(task_id)

    @override
    def stop(self) -> None:
        super().stop()
        for task in self.tasks if self._shows_end else ():
            print_line(self.console, *_words_of(task))

    def _show(self, task_id: TaskID) -> None:
        if not self._log.is_due:
            return
        task = next(each for each in self.tasks if each.id == task_id)
        self._log.show(*_words_of(task), in_time(task.time_remaining))


def _words_of(task: Task) -> tuple[str, str]:
    counts = f"{task.completed:.0f}" + ("" if task.total is None else f" of {task.total:.0f}")
    return f"{task.description} {counts}", task.fields.get("words", "")


def progress_bar(
    console: Console,
    *columns: ProgressColumn,
    every_seconds: float = LINE_SECONDS,
    shows_end: bool = False,
) -> Progress:
    """Return a progress bar, or what prints lines where the console is no terminal.

    Args:
        console: Its output.
        columns: Of the bar; default: counts, rate, remaining time and status.
        every_seconds: Between two lines.
        shows_end: Whether the last state has a line, as nothing else says it.
    """
    if not console.is_terminal:
        return _Lines(console, every_seconds, shows_end=shows_end)
    usual = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[words]}"),
    )
    return Progress(*(columns or usual), console=console)


@contextmanager
def status_line(console: Console, words: str) -> Iterator[Callable[[str], None]]:
    """Yield what shows words: in place of those before on a terminal, else in a line now and then.

    Args:
        console: Its output.
        words: Shown first on a terminal.
    """
    if not console.is_terminal:
        yield _Log(console).show
        return
    with console.status(Text(words)) as status:
        yield lambda words: status.update(Text(words))


def print_line(console: Console, *words: str) -> None:
    """Print words in one line, whatever the width."""
    console.print(Text(", ".join(filter(None, words))), soft_wrap=True)


def in_time(seconds: float | None) -> str:
    """Format the time that is left, in minutes; empty where it is over or not known."""
    if not seconds:
        return ""
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    return f"{hours} h {minutes} min left" if hours else f"{minutes} min left"


class TrainingProgress:
    """Shows a training: its stages, steps and epochs."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("training, step", total=None, words="")
        self._begun: tuple[int, float] | None = None
        """Finished steps when the first one of this process ended, and when that was."""
        self._seconds_left: float | None = None

    def stage(self, words: str) -> None:
        """Show what begins."""
        if self._bar.console.is_terminal:
            self._bar.update(self._task, words=words)
        else:
            print_line(self._bar.console, words)

    def step(self, done: int, total: int, words: str) -> None:
        """Show a step."""
        now = time.monotonic()
        self._begun = self._begun or (done, now)
        if steps := done - self._begun[0]:
            self._seconds_left = (now - self._begun[1]) / steps * (total - done)
        self._bar.update(self._task, completed=done, total=total, words=words)

    def epoch(self, words: str) -> None:
        """Show the result of an epoch, which stays."""
        left = in_time(self._seconds_left)
        print_line(self._bar.console, words, left and f"at most {left}")


@contextmanager
def training_progress(console: Console) -> Iterator[TrainingProgress]:
    """Yield what shows a training."""
    with progress_bar(console, every_seconds=TRAINING_LINE_SECONDS) as bar:
        yield TrainingProgress(bar)
