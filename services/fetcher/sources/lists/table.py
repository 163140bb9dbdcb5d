"""Tables of lists: a column of URLs, and optionally one of annotations."""

from collections.abc import Iterable, Iterator

from services.common.domain.tables.columns import URL_NAMES, Wanted
from services.common.domain.tables.records import Damaged
from services.common.domain.tables.table import TableRow
from services.fetcher.sources.lists.rows import Row, reject, to_row

WANTED = Wanted(where=URL_NAMES, has_details=True)


def is_url(cell: str) -> bool:
    """Return whether a table's first cell is a URL, so that it has no header."""
    return cell.strip().strip('"\ufeff').lower().startswith(("http://", "https://"))


def to_items(rows: Iterable[TableRow | Damaged]) -> Iterator[Row]:
    """Yield an item or a rejection for each row."""
    for row in rows:
        if isinstance(row, Damaged):
            yield reject(row.line, row.value, row.code, row.detail)
        else:
            yield to_row(row.line, row.where or None, row.text, row.details)
