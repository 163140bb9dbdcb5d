"""Plain-text lists: one URL per line, optionally with a text, and ``#`` comments."""

from collections.abc import Iterable, Iterator

from services.common.domain.tables.dialect import COMPLETE
from services.common.domain.tables.lines import Line
from services.common.domain.tables.records import Damaged, read_lines
from services.common.domain.tables.table import Report, TableRow


def read_text(lines: Iterable[Line], report: Report) -> Iterator[TableRow | Damaged]:
    """Yield each line that is neither blank nor a comment."""
    for record in read_lines(lines):
        if isinstance(record, Damaged):
            row: TableRow | Damaged = record
        elif record.cells[0].startswith("#"):
            continue
        else:
            row = TableRow(record.line, *_cut(record.cells[0]))
        report.count(row)
        yield row


def _cut(line: str) -> tuple[str, str | None]:
    """Return the URL of a line, without brackets and quotes, and the text after it.

    A space may be part of a URL: the rest is a text only if an image suffix comes before it, and
    none at the end of the line.
    """
    for first, last in ("<>", '""'):
        if line.startswith(first) and line.endswith(last) and (inner := line[1:-1].strip()):
            line = inner
    if COMPLETE.search(bare := line.rstrip(",; ")):
        return bare, None
    url, _, text = line.partition(" ")
    return (url, text.strip()) if COMPLETE.search(url) else (line, None)
