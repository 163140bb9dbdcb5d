"""Output of commands: tables and bars for people, one JSON document for machines.

Texts and sources of images are untrusted: they must not reach the terminal as markup or as control
characters.
"""

import asyncio
import json
import logging
import unicodedata
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from services.cli.errors import CommandError, ExitStatus, known_errors

WIDE = 4000
"""Width without line wrapping."""
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


def to_json(document: object) -> str:
    """Return JSON that is safe for a terminal: unprintable characters are escaped."""
    text = json.dumps(document, ensure_ascii=False, indent=2, default=str)
    return "".join(
        json.dumps(character)[1:-1]
        if character != "\n" and unicodedata.category(character) in _UNPRINTABLE
        else character
        for character in text
    )


def cell(value: object, style: str = "") -> Text:
    """Return untrusted text for a table: no markup, no control characters."""
    return Text(plain(value), style=style)


def cell_of_lines(values: Iterable[object]) -> Text:
    """Return untrusted texts for one cell of a table, one per line."""
    return Text("\n".join(plain(value) for value in values))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Text | str]]) -> Table:
    """Return a table; untrusted cells must be a ``cell``."""
    made = Table(title=title, title_justify="left", header_style="bold", expand=False)
    for column in columns:
        is_number = column in {"score", "CER", "line", "attempts"}
        made.add_column(column, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


class Output:
    """Writes the result to standard output, and messages to standard error.

    Args:
        as_json: Print the result as one JSON document.
        is_wide: Whether lines may exceed the width of the terminal.
    """

    def __init__(self, *, as_json: bool, is_wide: bool = False) -> None:
        self.as_json = as_json
        self.answers = Console(highlight=False, width=WIDE if is_wide else None)
        self.asides = Console(stderr=True, highlight=False)

    def answer(self, document: object, *people: RenderableType) -> None:
        """Print the result, as JSON or for people."""
        if self.as_json:
            typer.echo(to_json(document))
        else:
            for each in people:
                _print(self.answers, each)

    def error(self, error: CommandError) -> None:
        """Print an error and its hint."""
        text = "\n".join(plain(line) for line in str(error).splitlines())
        _print(self.asides, Text("Error: ", style="bold red") + Text(text))
        if error.hint:
            _print(self.asides, error.hint)


def _print(console: Console, shown: RenderableType) -> None:
    """Print a sentence in one line of any width; wrap the rest."""
    sentence = Text(shown) if isinstance(shown, str) else shown
    console.print(sentence, soft_wrap=isinstance(sentence, Text))


def run(output: Output, work: Callable[[], Coroutine[Any, Any, ExitStatus]]) -> None:
    """Run a command and exit.

    Raises:
        typer.Exit: Always; with the exit status.
    """
    # The command reports unavailable servers itself
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        with known_errors():
            status = asyncio.run(work())
    except CommandError as error:
        output.error(error)
        status = error.status
    raise typer.Exit(int(status))


def counted(counts: Mapping[str, int]) -> str:
    """Format counts: ``12 stored, 3 failed``; zeros are omitted."""
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number) or "nothing"
