"""Reader of tables: URL lists, ground truth in archives, annotation files.

A row is an image and its text. Nothing is dropped silently: the report has the used and unused
columns, and the rows that were interpreted.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import IO, Any, ClassVar

from pydantic import ConfigDict

from services.common.domain.details import MAX_KEYS, NO_DETAILS, PREDICTED, Details
from services.common.domain.tables.columns import NULL, TEXT_NAMES, Columns, Wanted, plain
from services.common.domain.tables.dialect import (
    COMPLETE,
    SAMPLE_ROWS,
    Dialect,
    Hints,
    find_dialect,
)
from services.common.domain.tables.lines import Line, detect_encoding, open_lines
from services.common.domain.tables.records import Damaged, Record, read_lines, read_records

AS_DESCRIPTIONS = ConfigDict(use_attribute_docstrings=True)
"""For the schemas in which reports are."""
MAX_NOTES = 100
MAX_DAMAGED = 10_000
"""Unreadable rows after which a table is given up if they are the majority."""
MAX_COLUMNS = 50
"""Reported names of columns, where each row has its own."""


class TableGivenUpError(ValueError):
    """Most rows can't be read."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """An image and its text, from one row."""

    line: int
    where: str
    text: str | None
    quality: str | None = None
    details: Details = NO_DETAILS


@dataclass(frozen=True, slots=True)
class Note:
    """A warning about an accepted row, or about an ignored text."""

    __pydantic_config__: ClassVar = AS_DESCRIPTIONS

    line: int
    """From 1; 0: the table as a whole."""
    code: str
    """``cells_joined``: the text had unquoted separators. ``duplicate_column``: only the first
    column of that name is read. ``metadata_dropped``: a value was not stored.
    ``prediction_dropped``: the text of an export is a model's. ``text_of_page``: only lines have
    texts. Of archives and folders also ``no_such_image``, ``no_ground_truth``, ``texts_disagree``,
    ``metadata_disagrees``, or the code of a damaged row."""
    detail: str
    member: str | None = None
    """Path of the table, in an archive or a folder."""


@dataclass
class Report:
    """Reading report: all detected and ignored parts of a table; complete after the last row."""

    __pydantic_config__: ClassVar = AS_DESCRIPTIONS

    encoding: str | None = None
    separator: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    """Names of used columns by role; empty without a header."""
    metadata_columns: list[str] = field(default_factory=list)
    """Names of columns stored as metadata."""
    ignored_columns: list[str] = field(default_factory=list)
    skipped_lines: int = 0
    """Lines above the header: titles, comments."""
    rows: int = 0
    """Of an archive: its images."""
    with_text: int = 0
    """Rows, or images, that have an annotation."""
    damaged: int = 0
    """Rows that can't be read."""
    blank_rows: int = 0
    """Rows of separators only, as written by spreadsheets."""
    notes: list[Note] = field(default_factory=list)
    """The first ``MAX_NOTES``."""
    note_count: int = 0
    note_counts: dict[str, int] = field(default_factory=dict)
    """By code."""
    texts_without_image: int = 0
    """Of an archive or a folder: texts without an unambiguous image."""
    licence: str | None = None
    """Of an archive or a folder: as its ``htr-united.yml`` says."""
    data_set: dict[str, str] = field(default_factory=dict)
    """Likewise, its title and address: metadata of each image."""
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of an archive or a folder: columns and encoding by the tables' paths."""

    def count(self, row: TableRow | Damaged) -> None:
        """Count a row."""
        self.rows += 1
        if isinstance(row, Damaged):
            self.damaged += 1
            if self.damaged > MAX_DAMAGED and self.damaged * 2 > self.rows:
                raise TableGivenUpError(f"{self.damaged} of {self.rows} rows can't be read")
        elif row.text is not None and row.details.how != PREDICTED:
            self.with_text += 1

    def note(self, note: Note) -> None:
        """Count a note, and keep it below the limit."""
        self.note_count += 1
        self.note_counts[note.code] = self.note_counts.get(note.code, 0) + 1
        if len(self.notes) < MAX_NOTES:
            self.notes.append(note)

    def count_unkept(self, other: "Report") -> None:
        """Count the notes of another report that it has not kept."""
        unkept = Counter(other.note_counts) - Counter(note.code for note in other.notes)
        self.note_count += unkept.total()
        self.note_counts = dict(Counter(self.note_counts) + unkept)

    def describe(self, columns: Columns, *, line: int) -> None:
        """Report used, kept and ignored columns; earlier reports are kept.

        Args:
            columns: Of the table, or of one row where each has its own.
            line: Of the header; 0 without header.
        """
        for role, name in columns.used.items():
            self.columns.setdefault(role, name)
        self._tell(self.metadata_columns, columns.kept, line)
        self._tell(self.ignored_columns, columns.ignored, line)
        if len(columns.kept) >= MAX_KEYS and columns.ignored and line:
            detail = f"of the further columns the first {MAX_KEYS} are kept"
            self.note(Note(line, "metadata_dropped", detail))

    def noted(self, line: int, details: Details, problem: str) -> Details:
        """Return what a row says beside its text, and note what of it is dropped, if anything."""
        if problem:
            self.note(Note(line, "metadata_dropped", problem[:300]))
        return details

    def checked(
        self, line: int, text: str | None, details: Details, member: str | None = None
    ) -> tuple[str | None, Details]:
        """Return a text with its details; drop and note that of a page, and a prediction."""
        if details.is_page and text is not None:
            detail = "the text of a whole page is not taken: only its lines have texts"
            self.note(Note(line, "text_of_page", detail, member))
            text = None
        if details.how != PREDICTED:
            return text, details
        if text is not None:
            detail = "a prediction in an export, unchecked by a person: not taken as a text"
            self.note(Note(line, "prediction_dropped", detail, member))
        return None, replace(details, how=None)

    def _tell(self, told: list[str], names: Sequence[str], line: int) -> None:
        """Add names of columns; note those that may be the text as well as the one taken."""
        taken = self.columns.get("text", "")
        for name in names:
            if name in told or len(told) >= MAX_COLUMNS:
                continue
            told.append(name)
            if taken and plain(name) in TEXT_NAMES and plain(name) != plain(taken):
                detail = f"{taken[:100]!r} is taken as the text, and {name[:100]!r} is not"
                self.note(Note(line, "several_text_columns", detail))


@dataclass(frozen=True)
class TableSource:
    """A file and its known properties.

    Args:
        file: Stays open.
        separator: From its name or content type; None: detected.
        encoding: Declared by the sender.
        is_nameless: Whether a first cell means that the table has no header.
        null: Text of a missing value, if any.
    """

    file: IO[bytes]
    is_nameless: Callable[[str], bool]
    separator: str | None = None
    encoding: str | None = None
    null: str | None = NULL


def read_table(source: TableSource, wanted: Wanted, report: Report) -> Iterator[TableRow | Damaged]:
    """Yield each row of a table, and fill ``report``.

    Raises:
        NoHeaderError: A required column is missing.
        TableGivenUpError: Most rows can't be read.
        UnknownEncodingError: There is no encoding of the declared name.
    """
    encoding = detect_encoding(source.file, source.encoding)
    report.encoding = encoding
    sample = _sample(open_lines(source.file, encoding))
    if not sample:
        return
    # Excel's Unicode text is UTF-16 with tabs and quoting
    quoted = source.separator != "\t" or encoding.startswith("utf-16")
    hints = Hints(source.separator, quoted, source.is_nameless)
    dialect = find_dialect([line.text for line in sample], wanted, hints)
    _describe(report, dialect, sample[max(dialect.first_row - 1, 0)].number)
    lines = _from(open_lines(source.file, encoding), _first_line(sample, dialect))
    for record in _records(lines, dialect):
        row = (
            record if isinstance(record, Damaged) else _to_row(record, dialect, source.null, report)
        )
        if row is not None:
            report.count(row)
            yield row


def _sample(lines: Iterator[Line]) -> list[Line]:
    return list(islice((line for line in lines if line.text.strip("\ufeff \t\r\n\0")), SAMPLE_ROWS))


def _first_line(sample: list[Line], dialect: Dialect) -> int:
    if dialect.first_row < len(sample):
        return sample[dialect.first_row].number
    return sample[-1].number + 1


def _from(lines: Iterator[Line], number: int) -> Iterator[Line]:
    return (line for line in lines if line.number >= number)


def _records(lines: Iterator[Line], dialect: Dialect) -> Iterator[Record | Damaged]:
    if dialect.separator is None:
        return read_lines(lines)
    return read_records(lines, dialect.separator, is_quoted=dialect.is_quoted)


def _describe(report: Report, dialect: Dialect, header: int) -> None:
    report.separator = dialect.separator
    report.skipped_lines = dialect.skipped
    columns = dialect.columns
    report.describe(columns, line=header)
    names = [plain(name) for name in columns.names]
    for name in (*columns.used.values(), *columns.kept):
        if names.count(plain(name)) > 1:
            detail = f"several columns are named {name[:100]!r}: the first is read"
            report.note(Note(header, "duplicate_column", detail))


def _to_row(
    record: Record, dialect: Dialect, null: str | None, report: Report
) -> TableRow | Damaged | None:
    columns = dialect.columns
    cells = record.cells
    if not any(cell.strip() for cell in cells):
        report.blank_rows += 1
        return None
    if not columns.names and cells[0].lstrip().startswith("#"):
        return None
    width = len(columns.names) or (1 if columns.text is None else 2)
    while len(cells) > width and not cells[-1].strip():  # separators at the ends of rows
        cells.pop()
    if len(cells) > width:
        return _joined(record, dialect, width, report)
    text = _cell(cells, columns.text)
    if text is not None and not dialect.is_quoted and _is_quoted_as_csv(text):
        detail = "quotes are part of the text in this table; name it .csv to remove them"
        report.note(Note(record.line, "quotes_kept", detail))
    return TableRow(
        record.line,
        (_cell(cells, columns.where) or "").strip(),
        None if text is None or not text.strip() or text.strip() == null else text,
        _cell(cells, columns.quality),
        report.noted(record.line, *columns.details(cells)),
    )


def _joined(record: Record, dialect: Dialect, width: int, report: Report) -> TableRow | Damaged:
    """Read a row of too many cells, if the text is the last column.

    An unquoted text with separators is only unambiguous in the last column.
    """
    columns: Columns = dialect.columns
    separator = dialect.separator
    if columns.text == width - 1 and record.raw is not None and separator is not None:
        *before, text = record.raw.split(separator, width - 1)
        where = _cell(before, columns.where)
        if where is not None and "://" in where and not COMPLETE.search(where.strip()):
            return _joined_url(record, separator, width, report)
        detail = f"{len(record.cells)} cells in a table of {width} columns: the last are one text"
        report.note(Note(record.line, "cells_joined", detail))
        details = report.noted(record.line, *columns.details(before))
        quality = _cell(before, columns.quality)
        return TableRow(record.line, (where or "").strip(), text, quality, details)
    return _too_many(record, separator, width)


def _joined_url(record: Record, separator: str, width: int, report: Report) -> TableRow | Damaged:
    """Read a row whose URL may contain separators: it ends with an image suffix."""
    parts = (record.raw or "").split(separator)
    for place in range(2, len(parts) if width == 2 else 0):
        where, text = separator.join(parts[:place]).strip(), separator.join(parts[place:])
        if COMPLETE.search(where):
            detail = f"the URL is taken up to {where[-40:]!r}, and the rest as the text"
            report.note(Note(record.line, "cells_joined", detail))
            return TableRow(record.line, where, text if text.strip() else None)
    return _too_many(record, separator, width)


def _too_many(record: Record, separator: str | None, width: int) -> Damaged:
    detail = f"{len(record.cells)} cells in a table of {width} columns; a quote is missing"
    value = (separator or "").join(record.cells)
    return Damaged(record.line, value, "too_many_cells", detail)


def _is_quoted_as_csv(text: str) -> bool:
    text = text.strip()
    return len(text) > 3 and text[0] == text[-1] == '"' and '""' in text[1:-1]


def _cell(cells: list[str], place: int | None) -> str | None:
    return cells[place] if place is not None and place < len(cells) else None
