"""Lists as Parquet files.

A few bytes of Parquet can ask for any amount of memory, and its reader is C++: so a bounded child
process reads it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import IO, Any

from services.common.domain.details import Details
from services.common.domain.tables.columns import Columns, Wanted
from services.common.domain.tables.records import Damaged
from services.common.domain.tables.table import Report, TableRow
from services.common.runtime.bounded_child import BoundedChild, ChildError, ChildLimits
from services.fetcher.sources.lists.rows import MalformedListError, Row
from services.fetcher.sources.lists.table import to_items

MEMORY_BYTES = 768 * 1024 * 1024
"""Of the child, its libraries included; row groups of usual writers take a fraction of it."""
CPU_SECONDS = 300
_TARGET = "services.fetcher.sources.lists.parquet_reader:rows"


def parse_parquet(file: IO[bytes], wanted: Wanted, report: Report) -> Iterator[Row]:
    """Yield an item or a rejection for each row; rows count from 1.

    Args:
        file: Has a file descriptor.
        wanted: Columns.
        report: How it was read; complete when all rows are.

    Raises:
        MalformedListError: It is no such file, has no column of URLs, or takes too much to read.
    """
    limits = ChildLimits(MEMORY_BYTES, CPU_SECONDS)
    with BoundedChild(_TARGET, file, limits, asdict(wanted)) as child:
        yield from to_items(to_rows(results_of(child), report))


def results_of(child: BoundedChild) -> Iterator[Any]:
    """Yield what a child that reads Parquet sends.

    Raises:
        MalformedListError: It could not read the file.
    """
    try:
        yield from child.results()
    except ChildError as error:
        raise MalformedListError(f"not a Parquet file that can be read: {error}") from error


def describe(report: Report, columns: dict[str, Any]) -> None:
    """Tell what the columns that a child has found are used as."""
    names, metadata = tuple(columns.pop("names")), tuple(columns.pop("metadata"))
    report.describe(Columns(names=names, metadata=metadata, **columns), line=1)


def to_rows(results: Iterable[Any], report: Report) -> Iterator[TableRow | Damaged]:
    """Yield the rows that ``parquet_reader`` has read."""
    for result in results:
        if isinstance(result, dict):
            describe(report, result)
            continue
        for line, where, text, problem, said, dropped in result:
            row: TableRow | Damaged
            if problem:
                row = Damaged(line, where or "", "invalid_annotation", problem)
            else:
                text_ = text if text and text.strip() else None
                details = report.noted(line, Details.from_fields(said), dropped)
                row = TableRow(line, (where or "").strip(), text_, details=details)
            report.count(row)
            yield row
