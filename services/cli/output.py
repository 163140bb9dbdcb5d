"""How commands speak: tables and bars for people, one JSON document for machines.

What an image says, and where it came from, is written by strangers: nothing of it may reach the
terminal as markup or as a control character.
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
"""Characters of a line that is not to be folded."""
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that move the cursor, change the direction or the end of a line, or are
nothing (UAX 44, table 12)."""


def plain(value: object) -> str:
    """Return text that a terminal shows as it is, whoever wrote it."""
    return "".join(
        REPLACEMENT if unicodedata.category(character) in _UNPRINTABLE else character
        for character in str(value)
    )


def to_json(document: object) -> str:
    """Return JSON that a terminal shows as it is: what is unprintable is escaped, and stays."""
    text = json.dumps(document, ensure_ascii=False, indent=2, default=str)
    return "".join(
        json.dumps(character)[1:-1]
        if character != "\n" and unicodedata.category(character) in _UNPRINTABLE
        else character
        for character in text
    )


def cell(value: object, style: str = "") -> Text:
    """Return text by strangers for a table: no markup, no control characters."""
    return Text(plain(value), style=style)


def cell_of_lines(values: Iterable[object]) -> Text:
    """Return texts by strangers for one cell of a table, a line each."""
    return Text("\n".join(plain(value) for value in values))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Text | str]]) -> Table:
    """Return a table; every cell that is not markup of our own is a ``cell``."""
    made = Table(title=title, title_justify="left", header_style="bold", expand=False)
    for column in columns:
        is_number = column in {"score", "CER", "line", "attempts"}
        made.add_column(column, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


class Output:
    """Where a command writes: the answer to standard output, all else to standard error.

    Args:
        as_json: One JSON document on standard output and nothing else there.
        is_wide: Lines of the answer may be longer than the terminal is wide.
    """

    def __init__(self, *, as_json: bool, is_wide: bool = False) -> None:
        self.as_json = as_json
        self.answers = Console(highlight=False, width=WIDE if is_wide else None)
        self.asides = Console(stderr=True, highlight=False)

    def answer(self, document: object, *people: RenderableType) -> None:
        """Write the answer: the document as JSON, or what is for people."""
        if self.as_json:
            typer.echo(to_json(document))
        else:
            for each in people:
                _print(self.answers, each)

    def error(self, error: CommandError) -> None:
        """Write what went wrong, and what to do."""
        text = "\n".join(plain(line) for line in str(error).splitlines())
        _print(self.asides, Text("Error: ", style="bold red") + Text(text))
        if error.hint:
            _print(self.asides, error.hint)


def _print(console: Console, shown: RenderableType) -> None:
    """Print a sentence as it is, in one line however narrow the terminal; the rest as it fits."""
    sentence = Text(shown) if isinstance(shown, str) else shown
    console.print(sentence, soft_wrap=isinstance(sentence, Text))


def run(output: Output, work: Callable[[], Coroutine[Any, Any, ExitStatus]]) -> None:
    """Run a command to its end and leave with its exit status.

    Raises:
        typer.Exit: Always; carries the exit status.
    """
    # What a library has to say about a server that is down, the command says itself
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        with known_errors():
            status = asyncio.run(work())
    except CommandError as error:
        output.error(error)
        status = error.status
    raise typer.Exit(int(status))


def counted(counts: Mapping[str, int]) -> str:
    """Return counts in words: ``12 stored, 3 failed``; those that are 0 are left out."""
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number) or "nothing"
