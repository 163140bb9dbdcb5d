"""Lists as tables: CSV (RFC 4180) with a column of URLs and one of annotations.

People's tables come out of spreadsheets, so the separator is found (comma, semicolon, tab), column
names are forgiving, and a table without names is read by position.
"""

import csv
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from services.fetcher.lists.lines import MAX_LINE_LENGTH, Line
from services.fetcher.lists.rows import (
    MAX_ANNOTATION_LINES,
    MalformedListError,
    Rejection,
    Row,
    reject,
    to_row,
)

URL_COLUMNS = ("url", "image_url", "source_url", "image", "link", "href")
ANNOTATION_COLUMNS = ("annotation", "text", "label", "transcription", "ground_truth", "gt")

MAX_RECORD_LINES = MAX_ANNOTATION_LINES
"""Lines of one record, by the line ends in its quotes."""


@dataclass(frozen=True)
class _Columns:
    url: int
    annotation: int | None
    count: int


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

    def peek(self) -> str:
        """Return the next line that is not blank; empty at the end."""
        for line in self._lines:
            if line.text.strip():
                self._given_back.append(line)
                return line.text
        return ""

    def give_back(self, lines: Sequence[Line]) -> None:
        self._given_back.extendleft(reversed(lines))


@dataclass(frozen=True)
class _Record:
    line: int
    cells: list[str]


def find_column(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    """Return the place of the first of the wanted names, in whatever case and spelling."""
    plain = [name.strip().lower().replace(" ", "_").replace("-", "_") for name in names]
    return next((plain.index(name) for name in wanted if name in plain), None)


def parse_table(lines: Iterable[Line]) -> Iterator[Row]:
    """Yield an item or a rejection for each record.

    Raises:
        MalformedListError: No column holds the URLs.
    """
    feeder = _Feeder(lines)
    first_line = feeder.peek()
    records = _records(feeder, _delimiter(first_line))
    first = next(records, None)
    if first is None:
        return
    columns = _columns(first)
    if columns is None:
        detail = f"no column is named {', '.join(URL_COLUMNS[:-1])} or {URL_COLUMNS[-1]}"
        line = first.line
        raise MalformedListError(detail, [reject(line, first_line, "no_url_column", detail)])
    if isinstance(first, _Record) and _is_nameless(first.cells):
        yield _to_row(first, columns)
    for record in records:
        yield record if isinstance(record, Rejection) else _to_row(record, columns)


def _records(feeder: _Feeder, delimiter: str) -> Iterator[_Record | Rejection]:
    reader = csv.reader(feeder, delimiter=delimiter, strict=True)
    while True:
        feeder.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, _TooLongError) as error:
            line, *following = feeder.taken
            feeder.give_back(following)
            yield _failed(line, error)
        else:
            if cells:
                yield _Record(feeder.taken[0].number, cells)


def _failed(line: Line, error: Exception) -> Rejection:
    if line.is_whole:
        return reject(line.number, line.text, "malformed_row", f"not valid CSV: {error}")
    detail = f"more than {MAX_LINE_LENGTH} characters"
    return reject(line.number, line.text, "line_too_long", detail)


def _delimiter(first_line: str) -> str:
    if _is_nameless([first_line]):
        return "\t" if "\t" in first_line else ","
    return max(",;\t", key=first_line.count)


def _columns(first: _Record | Rejection) -> _Columns | None:
    if isinstance(first, Rejection):
        return None
    if _is_nameless(first.cells):
        return _Columns(0, 1, 2)
    url = find_column(first.cells, URL_COLUMNS)
    if url is None:
        return None
    return _Columns(url, find_column(first.cells, ANNOTATION_COLUMNS), len(first.cells))


def _is_nameless(cells: Sequence[str]) -> bool:
    return cells[0].strip().strip('"').lower().startswith(("http://", "https://"))


def _to_row(record: _Record, columns: _Columns) -> Row:
    cells = record.cells
    if len(cells) > columns.count:
        detail = f"{len(cells)} cells in a table of {columns.count} columns; a quote is missing"
        return reject(record.line, ",".join(cells), "too_many_cells", detail)
    if columns.url >= len(cells):
        return reject(record.line, ",".join(cells), "invalid_url", "there is no URL")
    annotation = None
    if columns.annotation is not None and columns.annotation < len(cells):
        annotation = cells[columns.annotation]
    return to_row(record.line, cells[columns.url], annotation)
