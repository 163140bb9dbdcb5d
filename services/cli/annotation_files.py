"""Stream annotation files: CSV, TSV, JSON lines or JSON, one image per row."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from services.common.domain.errors import PermanentError
from services.common.domain.tables.columns import (
    FILE_NAMES,
    HASH_NAMES,
    KEY_NAMES,
    QUALITY_NAMES,
    URL_NAMES,
    Wanted,
)
from services.common.domain.tables.dialect import NoHeaderError
from services.common.domain.tables.json_rows import load_json, read_items, read_json_lines
from services.common.domain.tables.lines import UnknownEncodingError
from services.common.domain.tables.list_format import ReadingOptions
from services.common.domain.tables.records import Damaged
from services.common.domain.tables.report import Report, TableGivenUpError, TableRow
from services.common.domain.tables.table import TableSource, read_table

WANTED = Wanted(
    where=(*KEY_NAMES, *URL_NAMES, *FILE_NAMES, *HASH_NAMES),
    quality=QUALITY_NAMES,
    needs_text=True,
    option="--{}-column",
)
JSON_LINES_SUFFIXES = frozenset({".jsonl", ".ndjson"})
_SEPARATORS = {".tsv": "\t", ".tab": "\t"}
MAX_JSON_BYTES = 64 * 1024 * 1024
"""Limit of a JSON document, which is read as a whole."""


class UnreadableFileError(PermanentError):
    """The file is not a list of annotations."""

    code = "unreadable_file"


@dataclass(frozen=True)
class Row:
    """A row."""

    line: int
    where: str
    """URL, key or file name."""
    text: str | None
    quality: str | None


@dataclass(frozen=True)
class InvalidRow:
    """An invalid row."""

    line: int
    detail: str


@dataclass(frozen=True)
class AnnotationFile:
    """An open file of annotations."""

    size: int
    """Bytes."""
    _file: IO[bytes]
    _suffix: str
    _options: ReadingOptions
    report: Report = field(default_factory=Report)
    """Reading report, complete after the last row."""

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._file.tell()

    def rows(self) -> Iterator[Row | InvalidRow]:
        """Yield the rows.

        Raises:
            UnreadableFileError: The column of images or of texts is missing.
        """
        try:
            for row in self._rows():
                yield _checked(row)
        except (NoHeaderError, TableGivenUpError, UnknownEncodingError) as error:
            raise UnreadableFileError(str(error)) from error

    def _rows(self) -> Iterator[TableRow | Damaged]:
        options = self._options
        wanted = options.wanted(WANTED)
        if self._suffix == ".json":
            yield from read_items(iter(_items(self._file)), wanted, self.report)
        elif self._suffix in JSON_LINES_SUFFIXES:
            yield from read_json_lines(self._file, wanted, self.report, options.encoding)
        else:
            separator = _SEPARATORS.get(self._suffix)
            source = TableSource(self._file, _names_image, separator, options.encoding)
            yield from read_table(source, wanted, self.report)


@contextmanager
def open_annotations(path: Path, options: ReadingOptions | None = None) -> Iterator[AnnotationFile]:
    """Open a file for a ``with`` block.

    Raises:
        UnreadableFileError: It can't be opened.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UnreadableFileError(f"{path} can't be read: {error.strerror}") from error
    with file:
        size = path.stat().st_size
        yield AnnotationFile(size, file, path.suffix.lower(), options or ReadingOptions())


def _names_image(cell: str) -> bool:
    """Return whether a first cell is a URL, a key or a file name, so that there is no header."""
    cell = cell.strip().strip('"\ufeff')
    return cell.lower().startswith(("http://", "https://")) or "/" in cell or "." in cell.strip(".")


def _items(file: IO[bytes]) -> list[object]:
    content = file.read(MAX_JSON_BYTES + 1)
    if len(content) > MAX_JSON_BYTES:
        detail = f"a JSON document of more than {MAX_JSON_BYTES} bytes; write JSON lines (.jsonl)"
        raise UnreadableFileError(detail)
    try:
        document = load_json(content)
    except (ValueError, RecursionError) as error:
        raise UnreadableFileError(f"not valid JSON: {error}") from error
    items = document.get("items") if isinstance(document, dict) else document
    if not isinstance(items, list):
        raise UnreadableFileError("a JSON file of annotations must be an array of objects")
    return items


def _checked(row: TableRow | Damaged) -> Row | InvalidRow:
    if isinstance(row, Damaged):
        return InvalidRow(row.line, row.detail)
    if not row.where:
        return InvalidRow(row.line, "neither URL nor key")
    return Row(row.line, row.where, row.text, row.quality)
