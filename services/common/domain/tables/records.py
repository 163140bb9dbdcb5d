"""Cut lines into the records of a table, whatever is wrong with some of them."""

import csv
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from services.common.domain.tables.lines import MAX_LINE_LENGTH, Line

MARK = "\ufeff"
"""Byte order mark; files that were put one behind the other have it within, too."""
MAX_RECORD_LINES = 100
"""Lines of one record, by the line ends in its quotes."""


@dataclass(frozen=True, slots=True)
class Record:
    """A row of cells."""

    line: int
    """Number of its first line."""
    cells: list[str]
    raw: str | None
    """Its line, where it has but one and no quote: what its cells were cut from."""


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
    """Hands lines to the CSV reader, and can take back those of a record that failed.

    A quote that is never closed swallows all that follows; only its own line shall be lost. So
    lines are read again, and the length of a record must have a limit: else a table with such a
    quote in each line would take time by the square of its length.
    """

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self._given_back: deque[Line] = deque()
        self.taken: list[Line] = []
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
            raise _TooLongError(f"{detail}; is a quote never closed?")
        if not line.is_whole:
            raise _TooLongError("a line is too long")
        return line.text

    def begin(self) -> None:
        """Forget the lines taken: a record begins."""
        self.taken.clear()
        self._taken_length = 0

    def give_back(self, lines: Sequence[Line]) -> None:
        self._given_back.extendleft(reversed(lines))


def read_records(
    lines: Iterable[Line], separator: str, *, is_quoted: bool
) -> Iterator[Record | Damaged]:
    """Yield the records of CSV (RFC 4180), or of lines in which quotes mean nothing."""
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
                yield Record(feeder.taken[0].number, cells, _raw(feeder.taken, is_quoted=is_quoted))


def read_lines(lines: Iterable[Line]) -> Iterator[Record | Damaged]:
    """Yield each line that is not blank as a record of one cell."""
    for line in lines:
        text = line.text.removeprefix(MARK).strip()
        if not line.is_whole:
            yield _damaged(line, "")
        elif line.undecodable:
            yield _undecodable(line.number, line)
        elif text:
            yield Record(line.number, [text], text)


def _raw(taken: Sequence[Line], *, is_quoted: bool) -> str | None:
    if len(taken) != 1 or (is_quoted and '"' in taken[0].text):
        return None
    return taken[0].text.rstrip("\r\n")


def _damaged(line: Line, detail: str) -> Damaged:
    if line.is_whole:
        return Damaged(line.number, line.text, "malformed_row", f"not valid CSV: {detail}")
    detail = f"more than {MAX_LINE_LENGTH} characters"
    return Damaged(line.number, line.text, "line_too_long", detail)


def _undecodable(number: int, line: Line) -> Damaged:
    detail = f"byte {line.undecodable} is not valid in the file's encoding"
    return Damaged(number, line.text, "undecodable_row", detail)
