"""Output of commands: tables and bars for people, JSON or CSV for machines.

Texts and sources of images are untrusted: they must not reach the terminal as markup or as control
characters.
"""

import asyncio
import csv
import json
import logging
import sys
import unicodedata
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from typing import Any

import typer
from rich import table as rich_table
from rich.console import Console, RenderableType
from rich.text import Text

from services.cli.errors import CommandError, ExitStatus, translate_errors
from services.cli.settings import ErrorSettings

WIDE = 4000
"""Width without line wrapping."""
SHORTENED = "--wide, --csv and --json show whole keys."
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that move the cursor, change the direction, end a line, or are unassigned
(UAX 44, table 12)."""


def plain(value: object) -> str:
    """Return text that is safe for a terminal."""
    return "".join(
        REPLACEMENT if unicodedata.category(character) in _UNPRINTABLE else character
        for character in str(value)
    )


def warned(warnings: Iterable[str]) -> list[str]:
    """Return warnings as lines to show."""
    return [f"Warning: {each}." for each in warnings]


def to_json(document: object) -> str:
    """Return JSON that is safe for a terminal: unprintable characters are escaped."""
    text = json.dumps(document, ensure_ascii=False, indent=2, default=str)
    return "".join(
        json.dumps(character)[1:-1]
        if character != "\n" and unicodedata.category(character) in _UNPRINTABLE
        else character
        for character in text
    )


class Cell(Text):
    """Text of a cell of a table, and the value that CSV has."""

    value: object = None
    whole: Text | None = None
    """Of a shortened text: all of it."""


def cell(value: object, style: str = "", *, form: str = "", short: str | None = None) -> Cell:
    """Return an untrusted value for a table: no markup, no control characters.

    Args:
        value: CSV has it as it is; None is empty.
        style: Color.
        form: Format of a number, such as ``.1%``.
        short: Shown instead, except with ``--wide``.
    """
    text = "" if value is None else format(value, form)
    made = Cell(plain(text if short is None else short), style=style)
    made.value = value
    made.whole = None if short in {None, text} else Text(plain(text), style=style)
    return made


def cell_of_lines(values: Iterable[object]) -> Cell:
    """Return untrusted texts for one cell of a table, one per line."""
    lines = [str(value) for value in values]
    made = Cell("\n".join(map(plain, lines)))
    made.value = "\n".join(lines)
    return made


@dataclass(frozen=True)
class Table:
    """A table for people, and its rows for CSV."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    empty: str = ""
    """Shown instead without rows."""
    most: int | None = None
    """Limit of shown rows, except with ``--wide``."""
    csv: tuple[Sequence[str], Sequence[Sequence[object]]] | None = None
    """Columns and rows of CSV, if they are others."""

    def records(self) -> tuple[Sequence[str], Sequence[Mapping[str, object]]]:
        """Return columns and rows for CSV."""
        columns, rows = self.csv or (self.columns, [list(map(_value, row)) for row in self.rows])
        return columns, [dict(zip(columns, row, strict=True)) for row in rows]

    def shown(self, *, is_wide: bool = False) -> RenderableType:
        """Return what people are shown."""
        return Text(self.empty) if self.empty and not self.rows else self.rendered(is_wide=is_wide)

    def rendered(self, *, is_wide: bool = False) -> rich_table.Table:
        """Return the table for a terminal."""
        rows = self.rows if is_wide else self.rows[: self.most]
        title = (
            self.title if len(rows) == len(self.rows) else f"{self.title}, the first {self.most}"
        )
        made = rich_table.Table(title=title, title_justify="left", header_style="bold")
        for at, column in enumerate(self.columns):
            is_number = all(isinstance(_value(row[at]), int | float | None) for row in rows)
            made.add_column(column, justify="right" if is_number else "left", overflow="fold")
        for row in rows:
            made.add_row(*((_whole(each) or each) if is_wide else each for each in row))
        if not is_wide and any(_whole(each) for row in rows for each in row):
            made.caption, made.caption_justify = SHORTENED, "left"
        return made

    def __rich__(self) -> RenderableType:
        """Return what people are shown, for rich."""
        return self.shown()


def _value(shown: Cell | str) -> object:
    return shown.value if isinstance(shown, Cell) else shown


def _whole(shown: Cell | str) -> Text | None:
    return shown.whole if isinstance(shown, Cell) else None


class Output:
    """Writes the result to standard output, and messages to standard error."""

    def __init__(self, *, as_json: bool = False, as_csv: bool = False, wide: bool = False) -> None:
        if as_json and as_csv:
            raise typer.BadParameter("either --csv or --json, not both")
        self.is_for_people = not (as_json or as_csv)
        self._as_json = as_json
        self._is_wide = wide
        self._stdout = Console(highlight=False, width=WIDE if wide else None)
        self.stderr = Console(stderr=True, highlight=False)

    def print(self, document: object, *shown: RenderableType) -> None:
        """Print the result, as JSON, CSV or for people."""
        if self._as_json:
            typer.echo(to_json(document))
            return
        if not self.is_for_people:
            sys.stdout.write(to_csv([each for each in shown if isinstance(each, Table)]))
            shown = tuple(each for each in shown if not isinstance(each, Table))
        for each in shown:
            what = each.shown(is_wide=self._is_wide) if isinstance(each, Table) else each
            _print(self._stdout if self.is_for_people else self.stderr, what)

    def error(self, error: CommandError) -> None:
        """Print an error and its hint."""
        text = "\n".join(plain(line) for line in str(error).splitlines())
        _print(self.stderr, Text("Error: ", style="bold red") + Text(text))
        if error.hint:
            _print(self.stderr, error.hint)
        if (file := ErrorSettings().error_file) is not None:
            with suppress(OSError):  # such as the full disk that the error is about
                file.write_text(text, encoding="utf-8")


def _print(console: Console, shown: RenderableType) -> None:
    """Print a sentence in one line of any width; wrap the rest."""
    sentence = Text(shown) if isinstance(shown, str) else shown
    console.print(sentence, soft_wrap=isinstance(sentence, Text))


def to_csv(tables: Sequence[Table]) -> str:
    """Return tables as one CSV table, of several with their titles; a terminal gets plain text."""
    made = [(each.title, *each.records()) for each in tables]
    titles = ["table"] if len(made) > 1 else []
    columns = dict.fromkeys([*titles, *(name for _, names, _ in made for name in names)])
    safe = plain if sys.stdout.isatty() else str
    written = StringIO()
    writer = csv.DictWriter(written, columns, extrasaction="ignore")
    if columns:
        writer.writeheader()
    for title, _, records in made:
        for record in records:
            known = {"table": title, **record}
            writer.writerow({name: safe(v) for name, v in known.items() if v is not None})
    return written.getvalue()


def run(output: Output, work: Callable[[], Coroutine[Any, Any, ExitStatus | None]]) -> None:
    """Run a command and exit.

    Raises:
        typer.Exit: Always; with the exit status.
    """
    # The command reports unavailable servers itself
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        with translate_errors():
            status = asyncio.run(work()) or ExitStatus.OK
    except CommandError as error:
        output.error(error)
        status = error.status
    raise typer.Exit(int(status))


def counted(counts: Mapping[str, int]) -> str:
    """Format counts: ``12 stored, 3 failed``; zeros are omitted."""
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number) or "nothing"
