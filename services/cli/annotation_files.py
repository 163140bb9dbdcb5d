"""Files of annotations: CSV, TSV or JSON lines, one image a row, read as they stream by."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from services.common.errors import PermanentError
from services.fetcher.lists.lines import Line, bounded_lines, detect_encoding
from services.fetcher.lists.table import ANNOTATION_COLUMNS, URL_COLUMNS, find_column

KEY_COLUMNS = ("key", "object", "id", "_id", "path", "file_name", "file")
QUALITY_COLUMNS = ("quality",)
NO_ROW = "a line is an object with a key or url, and a text, all of them strings"
JSON_SUFFIXES = frozenset({".jsonl", ".ndjson"})


class UnreadableFileError(PermanentError):
    """The file as a whole is no list of annotations."""

    code = "unreadable_file"


@dataclass(frozen=True)
class Row:
    """What a row says."""

    line: int
    where: str
    """URL or key."""
    text: str | None
    quality: str | None


@dataclass(frozen=True)
class Problem:
    """A row that says nothing."""

    line: int
    detail: str


@dataclass(frozen=True)
class _Columns:
    where: int
    text: int
    quality: int | None = None


@dataclass(frozen=True)
class AnnotationFile:
    """An open file of annotations."""

    size: int
    """Bytes."""
    _file: Any
    _is_json: bool

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return int(self._file.buffer.tell())

    def rows(self) -> Iterator[Row | Problem]:
        """Yield what each row says.

        Raises:
            UnreadableFileError: No column says which image, or no column says what it reads.
        """
        lines = bounded_lines(self._file)
        return _json_rows(lines) if self._is_json else _table_rows(lines)


@contextmanager
def open_annotations(path: Path) -> Iterator[AnnotationFile]:
    """Open a file for the length of a ``with`` block.

    Raises:
        UnreadableFileError: It can't be opened.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UnreadableFileError(f"{path} can't be read: {error.strerror}") from error
    with file:
        encoding = detect_encoding(file)
        text = TextIOWrapper(file, encoding=encoding, errors="replace", newline="")
        is_json = path.suffix.lower() in JSON_SUFFIXES
        yield AnnotationFile(path.stat().st_size, text, is_json)


def _table_rows(lines: Iterator[Line]) -> Iterator[Row | Problem]:
    first = next((line for line in lines if line.text.strip()), None)
    if first is None:
        return
    feeder = _Feeder(first, lines)
    # A quote that is never closed would swallow the file: csv's own limit ends such a field
    reader = csv.reader(feeder, delimiter=max(",;\t", key=first.text.count), strict=True)
    columns: _Columns | None = None
    while True:
        number = feeder.next_number
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Problem(number, _not_csv(error, number, feeder.next_number - 1))
            continue
        if columns is None:
            columns, is_header = _columns(cells)
            if is_header:
                continue
        if any(cell.strip() for cell in cells):
            yield _row(number, cells, columns)


def _not_csv(error: csv.Error, first: int, last: int) -> str:
    """Say what is wrong, and how far: behind an open quote whole rows are lost."""
    lines = f" (lines {first} to {last} are left out)" if last > first else ""
    return f"not valid CSV: {error}{lines}"


class _Feeder:
    """Gives lines to the CSV reader, and knows where the next record begins."""

    def __init__(self, first: Line, rest: Iterator[Line]) -> None:
        self._first: Line | None = first
        self._rest = rest
        self.next_number = first.number

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._first or next(self._rest)
        self._first = None
        self.next_number = line.number + 1
        return line.text


def _columns(first: Sequence[str]) -> tuple[_Columns, bool]:
    """Return where what is, and whether the row holds names; without names by position."""
    key, url = find_column(first, KEY_COLUMNS), find_column(first, URL_COLUMNS)
    where = url if key is None else key
    text = find_column(first, ANNOTATION_COLUMNS)
    if where is None and text is None:
        if len(first) < 2:
            raise UnreadableFileError("a row is: URL or key, text; perhaps a quality")
        return _Columns(0, 1, 2), False
    if where is None:
        raise UnreadableFileError(f"no column is named {_either((*KEY_COLUMNS, *URL_COLUMNS))}")
    if text is None:
        raise UnreadableFileError(f"no column is named {_either(ANNOTATION_COLUMNS)}")
    return _Columns(where, text, find_column(first, QUALITY_COLUMNS)), True


def _row(number: int, cells: Sequence[str], columns: _Columns) -> Row | Problem:
    def cell(place: int | None) -> str | None:
        return cells[place] if place is not None and place < len(cells) else None

    where = (cell(columns.where) or "").strip()
    if not where:
        return Problem(number, "neither URL nor key")
    return Row(number, where, cell(columns.text), cell(columns.quality))


def _json_rows(lines: Iterable[Line]) -> Iterator[Row | Problem]:
    for line in lines:
        if line.text.strip():
            yield _json_row(line)


def _json_row(line: Line) -> Row | Problem:
    try:
        item = json.loads(line.text) if line.is_whole else None
    except (ValueError, RecursionError) as error:
        return Problem(line.number, f"not valid JSON: {error}")
    if not isinstance(item, dict):
        return Problem(line.number, NO_ROW)
    where = _member(item, (*KEY_COLUMNS, *URL_COLUMNS))
    text, quality = _member(item, ANNOTATION_COLUMNS), _member(item, QUALITY_COLUMNS)
    is_fine = isinstance(where, str) and where.strip()
    if not is_fine or not all(isinstance(each, str | None) for each in (text, quality)):
        return Problem(line.number, NO_ROW)
    return Row(line.number, where.strip(), text, quality)


def _member(item: dict[str, Any], wanted: Sequence[str]) -> Any:
    names = list(item)
    place = find_column(names, wanted)
    return None if place is None else item[names[place]]


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
