"""Lists as plain text: one URL a line, blank lines and ``#`` comments between them."""

from collections.abc import Iterable, Iterator

from services.common.tables.lines import Line
from services.common.tables.records import Damaged, read_lines
from services.common.tables.table import Report, TableRow


def read_text(lines: Iterable[Line], report: Report) -> Iterator[TableRow | Damaged]:
    """Yield each line that is neither blank nor a comment."""
    for record in read_lines(lines):
        if isinstance(record, Damaged):
            row: TableRow | Damaged = record
        elif record.cells[0].startswith("#"):
            continue
        else:
            row = TableRow(record.line, record.cells[0], None)
        report.count(row)
        yield row
