"""Split lines into the records of a table, tolerating damaged ones."""

import csv
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from services.common.domain.tables.lines import MAX_LINE_LENGTH, FileLine

MARK = "\ufeff"
"""Byte order mark; also within concatenated files."""
MAX_RECORD_LINES = 100
"""Limit of lines in one (quoted) record."""


@dataclass(frozen=True, slots=True)
class CellRow:
    """A row of cells."""

    line: int
    """Number of its first line."""
    cells: list[str]
    raw: str | None
    """Its line, if it has only one and no quote."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A row that can't be read.

    Args:
        code: ``malformed_row``, ``line_too_long`` or ``undecodable_row``.
    """

    line: int
    value: str
    code: str
    detail: str


class _TooLongError(Exception):
    pass


class _Feeder:
    """Feeds lines to the CSV reader, and can rewind after a failed record.

    An unclosed quote would consume the rest of the file, so the lines after it are read again. The
    length of a record is limited, as a table of unclosed quotes would take quadratic time.
    """

    def __init__(self, lines: Iterable[FileLine]) -> None:
        self._lines = iter(lines)
        self._given_back: deque[FileLine] = deque()
        self.taken: list[FileLine] = []
        self._taken_length = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._given_back.popleft() if self._given_back else next(self._lines)
        if not self.taken and line.text.startswith(MARK):
            line = replace(line, text=line.text.removeprefix(MARK))
        self.taken.append(line)
        self._taken_length += len(line.text)
        if len(self.taken) > MAX_RECORD_LINES or self._taken_length > MAX_LINE_LENGTH:
            detail = f"more than {MAX_RECORD_LINES} lines or {MAX_LINE_LENGTH} characters"
            raise _TooLongError(f"{detail}; is a quote unclosed?")
        if not line.is_whole:
            raise _TooLongError("line is too long")
        return line.text

    def begin(self) -> None:
        """Start a record: forget the lines of the last one."""
        self.taken.clear()
        self._taken_length = 0

    def give_back(self, lines: Sequence[FileLine]) -> None:
        self._given_back.extendleft(reversed(lines))


def read_records(
    lines: Iterable[FileLine], separator: str, *, is_quoted: bool
) -> Iterator[CellRow | Damaged]:
    """Yield the records of CSV (RFC 4180), with or without quoting."""
    feeder = _Feeder(lines)
    reader = csv.reader(
        feeder,
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE,
        skipinitialspace=is_quoted,
        strict=True,
    )
    while True:
        feeder.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, _TooLongError) as error:
            line, *following = feeder.taken
            feeder.give_back(following)
            yield _damaged(line, str(error))
        else:
            if damaged := next((line for line in feeder.taken if line.undecodable), None):
                yield _undecodable(feeder.taken[0].number, damaged)
            elif cells:
                yield CellRow(
                    feeder.taken[0].number, cells, _raw(feeder.taken, is_quoted=is_quoted)
                )


def read_lines(lines: Iterable[FileLine]) -> Iterator[CellRow | Damaged]:
    """Yield each non-blank line as a record of one cell."""
    for line in lines:
        text = line.text.removeprefix(MARK).strip()
        if not line.is_whole:
            yield _damaged(line, "")
        elif line.undecodable:
            yield _undecodable(line.number, line)
        elif text:
            yield CellRow(line.number, [text], text)


def _raw(taken: Sequence[FileLine], *, is_quoted: bool) -> str | None:
    if len(taken) != 1 or (is_quoted and '"' in taken[0].text):
        return None
    return taken[0].text.rstrip("\r\n")


def _damaged(line: FileLine, detail: str) -> Damaged:
    if line.is_whole:
        return Damaged(line.number, line.text, "malformed_row", f"not valid CSV: {detail}")
    detail = f"more than {MAX_LINE_LENGTH} characters"
    return Damaged(line.number, line.text, "line_too_long", detail)


def _undecodable(number: int, line: FileLine) -> Damaged:
    detail = f"byte {line.undecodable} is not valid in the file's encoding"
    return Damaged(number, line.text, "undecodable_row", detail)
