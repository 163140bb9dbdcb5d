"""Read a list in a bounded child process, which can be killed and holds no credentials.

A few bytes can cause much work: a quote in each line, a JSON document of a million objects.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from typing import IO, Any

from services.common.domain.pieces import in_pieces
from services.common.domain.sizes import MEBIBYTE
from services.common.domain.tables.list_format import ListFormat, ReadingOptions
from services.common.domain.tables.report import Note, Report
from services.common.runtime.bounded_child import BoundedChild, ChildError, ChildLimits
from services.fetcher.sources.errors import MalformedListError, Rejection
from services.fetcher.sources.lists.formats import OpenList, open_list
from services.fetcher.sources.lists.rows import ListItem, Row

LIMITS = ChildLimits(memory_bytes=256 * MEBIBYTE, cpu_seconds=600)
JSON_LIMITS = ChildLimits(memory_bytes=512 * MEBIBYTE, cpu_seconds=120)
"""Memory for a JSON document as Python objects."""
ROWS_AT_ONCE = 500
_MOST_CHARACTERS = 64 * 1024
"""Size of a batch of rows, within the limit of a child's result."""
_TARGET = "services.fetcher.sources.lists.reading:rows_in_child"


@asynccontextmanager
async def open_bounded(
    file: IO[bytes], list_format: ListFormat, options: ReadingOptions, *, max_rows: int
) -> AsyncIterator[OpenList]:
    """Yield a list whose rows are read by a child process, for an ``async with`` block.

    Args:
        file: Has a file descriptor; not to be used inside the block.
        list_format: Of the list.
        options: Given by its sender.
        max_rows: Limit of rows, including rejected ones.

    Raises:
        MalformedListError: It can't be read, or exceeds a limit; also while reading rows.
    """
    if list_format is ListFormat.PARQUET:  # has its own child process
        opened = open_list(file, list_format, options)
        yield replace(opened, rows=counted(opened.rows, max_rows))
        return
    limits = JSON_LIMITS if list_format is ListFormat.JSON else LIMITS
    # Leaving the block kills the child, which ends the waiting thread
    with BoundedChild(_TARGET, file, limits, list_format.value, asdict(options)) as child:
        yield await asyncio.to_thread(_begin, child, max_rows)


def _begin(child: BoundedChild, max_rows: int) -> OpenList:
    messages = _messages(child)
    head = next(messages)
    report = Report()
    return OpenList(
        head["name"],
        counted(_rows(messages, report), max_rows),
        report,
        head["list_url"],
        head["members"],
    )


def counted(rows: Iterator[Row], most: int) -> Iterator[Row]:
    """Yield rows, up to a limit.

    Raises:
        MalformedListError: The limit is exceeded.
    """
    for number, row in enumerate(rows, start=1):
        if number > most:
            raise MalformedListError(
                f"the list has more than {most} rows (FETCHER_MAX_LIST_ROWS): send it in parts"
            )
        yield row


def rows_in_child(file: IO[bytes], list_format: str, options: dict[str, Any]) -> Iterator[Any]:
    """Yield the list's description, batches of rows and the report; runs in the child."""
    try:
        opened = open_list(file, ListFormat(list_format), ReadingOptions(**options))
        yield {"name": opened.name, "list_url": opened.list_url, "members": opened.members}
        yield from pack(opened.rows)
        yield {"report": asdict(opened.report)}
    except MalformedListError as error:
        yield {"malformed": error.detail, "rejected": [asdict(row) for row in error.rejected]}


def _length(row: Row) -> int:
    return row.length if isinstance(row, ListItem) else len(row.value) + len(row.detail)


def _packed(row: Row) -> tuple[Any, ...]:
    if isinstance(row, ListItem):
        return row.packed
    return row.line, row.value, row.code, row.detail


def unpacked(fields: list[Any]) -> Row:
    """Decode a row of a child."""
    line, value, third, last = fields
    if isinstance(last, dict):
        return ListItem.unpacked((line, value, third, last))
    return Rejection(line, value, third, last)


def pack(rows: Iterator[Row]) -> Iterator[list[tuple[Any, ...]]]:
    """Decode the rows of a child."""
    pieces = in_pieces(rows, ROWS_AT_ONCE, length=_length, most_length=_MOST_CHARACTERS)
    for some in pieces:
        yield [_packed(row) for row in some]


def fill(report: Report, fields: dict[str, Any]) -> None:
    """Copy a child's report."""
    for name, value in fields.items():
        notes = [Note(**note) for note in value] if name == "notes" else value
        setattr(report, name, notes)


def _messages(child: BoundedChild) -> Iterator[Any]:
    try:
        for message in child.results():
            if isinstance(message, dict) and "malformed" in message:
                rejected = [Rejection(**row) for row in message["rejected"]]
                raise MalformedListError(message["malformed"], rejected)
            yield message
    except ChildError as error:
        raise MalformedListError(f"the list can't be read: {error}") from error


def _rows(messages: Iterator[Any], report: Report) -> Iterator[Row]:
    for message in messages:
        if isinstance(message, dict):
            fill(report, message["report"])
        else:
            yield from map(unpacked, message)
