"""Reader of tables: URL lists, ground truth in archives, annotation files.

A row is an image and its text. Nothing is dropped silently: the report has the used and unused
columns, and the rows that were interpreted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO

from services.common.domain.tables.columns import NULL, Columns, Wanted, plain
from services.common.domain.tables.dialect import (
    COMPLETE,
    SAMPLE_ROWS,
    Dialect,
    Hints,
    find_dialect,
)
from services.common.domain.tables.lines import FileLine, detect_encoding, open_lines
from services.common.domain.tables.records import CellRow, Damaged, read_lines, read_records
from services.common.domain.tables.report import Note, Report, TableRow


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


def _sample(lines: Iterator[FileLine]) -> list[FileLine]:
    return list(islice((line for line in lines if line.text.strip("\ufeff \t\r\n\0")), SAMPLE_ROWS))


def _first_line(sample: list[FileLine], dialect: Dialect) -> int:
    if dialect.first_row < len(sample):
        return sample[dialect.first_row].number
    return sample[-1].number + 1


def _from(lines: Iterator[FileLine], number: int) -> Iterator[FileLine]:
    return (line for line in lines if line.number >= number)


def _records(lines: Iterator[FileLine], dialect: Dialect) -> Iterator[CellRow | Damaged]:
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
    record: CellRow, dialect: Dialect, null: str | None, report: Report
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
        return _joined(record, dialect, width, null, report)
    text = _cell(cells, columns.text)
    if text is not None and not dialect.is_quoted and _is_quoted_as_csv(text):
        detail = "quotes are part of the text in this table; name it .csv to remove them"
        report.note(Note(record.line, "quotes_kept", detail))
    return TableRow(
        record.line,
        (_cell(cells, columns.where) or "").strip(),
        None if text is None or not text.strip() or text.strip() == null else text,
        _cell(cells, columns.quality),
        report.noted(record.line, *columns.details(cells, null)),
    )


def _joined(
    record: CellRow, dialect: Dialect, width: int, null: str | None, report: Report
) -> TableRow | Damaged:
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
        details = report.noted(record.line, *columns.details(before, null))
        quality = _cell(before, columns.quality)
        return TableRow(record.line, (where or "").strip(), text, quality, details)
    return _too_many(record, separator, width)


def _joined_url(record: CellRow, separator: str, width: int, report: Report) -> TableRow | Damaged:
    """Read a row whose URL may contain separators: it ends with an image suffix."""
    parts = (record.raw or "").split(separator)
    for place in range(2, len(parts) if width == 2 else 0):
        where, text = separator.join(parts[:place]).strip(), separator.join(parts[place:])
        if COMPLETE.search(where):
            detail = f"the URL is taken up to {where[-40:]!r}, and the rest as the text"
            report.note(Note(record.line, "cells_joined", detail))
            return TableRow(record.line, where, text if text.strip() else None)
    return _too_many(record, separator, width)


def _too_many(record: CellRow, separator: str | None, width: int) -> Damaged:
    detail = f"{len(record.cells)} cells in a table of {width} columns; a quote is missing"
    value = (separator or "").join(record.cells)
    return Damaged(record.line, value, "too_many_cells", detail)


def _is_quoted_as_csv(text: str) -> bool:
    text = text.strip()
    return len(text) > 3 and text[0] == text[-1] == '"' and '""' in text[1:-1]


def _cell(cells: list[str], place: int | None) -> str | None:
    return cells[place] if place is not None and place < len(cells) else None
