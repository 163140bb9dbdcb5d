"""Lists as Parquet files.

A few bytes of Parquet can request any amount of memory, and its reader is C++, so it runs in a
bounded child process.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import IO, Any

from services.common.domain.details import Details
from services.common.domain.tables.columns import Columns, Wanted
from services.common.domain.tables.records import Damaged
from services.common.domain.tables.report import Report, TableRow
from services.common.runtime.bounded_child import BoundedChild, ChildError, ChildLimits
from services.fetcher.sources.errors import MalformedListError
from services.fetcher.sources.lists.rows import Row, to_items

MEMORY_BYTES = 768 * 1024 * 1024
"""Memory of the child, including libraries; usual row groups take a fraction of it."""
CPU_SECONDS = 300
_TARGET = "services.fetcher.sources.lists.parquet_reader:rows"


def parse_parquet(file: IO[bytes], wanted: Wanted, report: Report) -> Iterator[Row]:
    """Yield an item or a rejection for each row; rows count from 1.

    Raises:
        MalformedListError: It is not Parquet, has no column of URLs, or exceeds a limit.
    """
    limits = ChildLimits(MEMORY_BYTES, CPU_SECONDS)
    with BoundedChild(_TARGET, file, limits, asdict(wanted)) as child:
        rows = to_rows(results_of(child), report)
        yield from to_items(rows, report, pages=wanted.pages)


def results_of(child: BoundedChild, kind: str = "Parquet") -> Iterator[Any]:
    """Yield the results of a child that reads a file of a kind.

    Raises:
        MalformedListError: It could not read the file.
    """
    try:
        yield from child.results()
    except ChildError as error:
        raise MalformedListError(f"not a file of {kind} that can be read: {error}") from error


def describe(report: Report, columns: dict[str, Any]) -> None:
    """Report the roles of columns found by a child."""
    for name in ("names", "metadata", "naming"):
        columns[name] = tuple(columns[name])
    report.describe(Columns(**columns), line=1)


def to_rows(results: Iterable[Any], report: Report) -> Iterator[TableRow | Damaged]:
    """Yield the rows of ``parquet_reader``."""
    for result in results:
        if isinstance(result, dict):
            describe(report, result)
            continue
        for line, where, text, problem, said, dropped in result:
            row: TableRow | Damaged
            if problem:
                code = "invalid_url" if where is None else "invalid_annotation"
                row = Damaged(line, where or "", code, problem)
            else:
                text_ = text if text and text.strip() else None
                details = report.noted(line, Details.from_fields(said), dropped)
                row = TableRow(line, (where or "").strip(), text_, details=details)
            report.count(row)
            yield row
