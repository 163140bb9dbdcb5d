"""The formats of lists: how a list is told to be of one, and how its rows are read."""

import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from io import BytesIO
from itertools import islice
from pathlib import PurePath
from typing import IO, Any

from services.common.domain.tables.columns import ReadingOptions, find_columns, missing
from services.common.domain.tables.dialect import NoHeaderError, split
from services.common.domain.tables.json_rows import read_items, read_json_lines
from services.common.domain.tables.lines import UnknownEncodingError, detect_encoding, open_lines
from services.common.domain.tables.records import Damaged
from services.common.domain.tables.table import (
    Report,
    TableGivenUpError,
    TableRow,
    TableSource,
    read_table,
)
from services.fetcher.lists.documents import (
    items_of,
    list_url_of,
    load_document,
    members_of,
    to_name,
)
from services.fetcher.lists.parquet import parse_parquet
from services.fetcher.lists.rows import MalformedListError, Row, reject
from services.fetcher.lists.table import WANTED, is_url, to_items
from services.fetcher.lists.text import read_text


class ListFormat(StrEnum):
    """How a list is written."""

    TEXT = "text"
    TABLE = "table"
    TSV = "tsv"
    JSON = "json"
    JSON_LINES = "json-lines"
    PARQUET = "parquet"


_BY_CONTENT_TYPE = {
    "text/plain": ListFormat.TEXT,
    "text/csv": ListFormat.TABLE,
    "application/csv": ListFormat.TABLE,
    "application/vnd.ms-excel": ListFormat.TABLE,  # what browsers on Windows call a .csv
    "text/tab-separated-values": ListFormat.TSV,
    "application/json": ListFormat.JSON,
    "application/jsonl": ListFormat.JSON_LINES,
    "application/x-ndjson": ListFormat.JSON_LINES,
    "application/vnd.apache.parquet": ListFormat.PARQUET,
    "application/x-parquet": ListFormat.PARQUET,
}
_BY_SUFFIX = {
    ".txt": ListFormat.TEXT,
    ".csv": ListFormat.TABLE,
    ".tsv": ListFormat.TSV,
    ".tab": ListFormat.TSV,
    ".json": ListFormat.JSON,
    ".jsonl": ListFormat.JSON_LINES,
    ".ndjson": ListFormat.JSON_LINES,
    ".parquet": ListFormat.PARQUET,
}
PARQUET_MARK = b"PAR1"
_SNIFFED_BYTES = 64 * 1024
_MARKS = " \t\r\n\ufeff"


@dataclass(frozen=True)
class OpenList:
    """A list whose rows can be read once."""

    name: str | None
    rows: Iterator[Row]
    report: Report = field(default_factory=Report)
    """How it was read; complete when all rows are."""
    list_url: str | None = None
    """Where the list is to be had; there are no rows then."""
    members: Mapping[str, str | bool | list[None] | None] = field(default_factory=dict)
    """Further members of a JSON document, where its sender may say how to take it."""


def find_format(*, content_type: str | None, file_name: str | None = None) -> ListFormat | None:
    """Return the format that a file's name or else its content type says, or None.

    A name may end in ``.gz`` besides: ``list.csv.gz``.
    """
    name = (file_name or "").lower().removesuffix(".gz")
    by_suffix = _BY_SUFFIX.get(PurePath(name).suffix)
    media_type = (content_type or "").partition(";")[0].strip().lower()
    return by_suffix or _BY_CONTENT_TYPE.get(media_type)


def sniff_format(file: IO[bytes]) -> ListFormat:
    """Return the format that a list seems to have by its beginning."""
    file.seek(0)
    start = file.read(_SNIFFED_BYTES)
    if start.startswith(PARQUET_MARK):
        return ListFormat.PARQUET
    encoding = "utf-16" if start.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
    text = start.decode(encoding, errors="replace").lstrip()
    first_line = text.partition("\n")[0].strip()
    if text.startswith("["):
        return ListFormat.JSON
    if text.startswith("{"):
        return ListFormat.JSON_LINES if _is_object(first_line) else ListFormat.JSON
    if "\t" in first_line:
        return ListFormat.TSV
    is_text = first_line.lower().startswith(("http://", "https://", "#"))
    return ListFormat.TEXT if is_text else ListFormat.TABLE


def open_list(
    file: IO[bytes], list_format: ListFormat, options: ReadingOptions | None = None
) -> OpenList:
    """Begin to read a list from the beginning of ``file``, which the caller closes.

    Raises:
        MalformedListError: It cannot be read; also while its rows are.
    """
    options = options or ReadingOptions()
    file.seek(0)
    if list_format is ListFormat.JSON and not _is_lines_after_all(file):
        return _open_document(file.read(), options)
    report = Report()
    if list_format is ListFormat.PARQUET:
        return OpenList(None, parse_parquet(file, options.wanted(WANTED), report), report)
    rows = _rows(file, list_format, options, report)
    return OpenList(None, _refusing(to_items(rows)), report)


def _open_document(content: bytes, options: ReadingOptions) -> OpenList:
    document = _load_document(content, options.encoding)
    name, list_url, members = (
        to_name(document.get("name")),
        list_url_of(document),
        members_of(document),
    )
    report = Report()
    if list_url is not None:
        return OpenList(name, iter(()), report, list_url, members)

    def rows() -> Iterator[TableRow | Damaged]:
        yield from read_items(iter(items_of(document)), options.wanted(WANTED), report)

    return OpenList(name, _refusing(to_items(rows())), report, members=members)


def _load_document(content: bytes, encoding: str | None) -> Mapping[str, Any]:
    """Load a document; the encoding of one that names a list is that of the list."""
    if encoding is None:
        return load_document(content)
    with suppress(MalformedListError):
        document = load_document(content)
        if "list_url" in document:
            return document
    return load_document(_as_utf8(content, encoding))


def _as_utf8(content: bytes, encoding: str) -> bytes:
    try:
        return content.decode(detect_encoding(BytesIO(content), encoding)).encode()
    except ValueError as error:  # of the encoding's name, too
        raise MalformedListError(f"the list is not {encoding[:40]}: {error}"[:300]) from error


def _is_lines_after_all(file: IO[bytes]) -> bool:
    """Return whether a file that is called JSON holds an object a line."""
    start = file.read(_SNIFFED_BYTES).decode("utf-8-sig", errors="replace")
    file.seek(0)
    first, _, second = start.lstrip().partition("\n")
    return second.lstrip().startswith("{") and _is_object(first)


def _is_object(line: str) -> bool:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and not {"items", "list_url"} & document.keys()


def _rows(
    file: IO[bytes], list_format: ListFormat, options: ReadingOptions, report: Report
) -> Iterator[TableRow | Damaged]:
    match list_format:
        case ListFormat.JSON_LINES | ListFormat.JSON:
            wanted = options.wanted(WANTED)
            yield from read_json_lines(file, wanted, report, options.encoding)
        case ListFormat.TEXT:
            yield from _text_rows(file, options, report)
        case _:
            separator = "\t" if list_format is ListFormat.TSV else None
            source = TableSource(file, is_url, separator, options.encoding)
            yield from read_table(source, options.wanted(WANTED), report)


def _text_rows(
    file: IO[bytes], options: ReadingOptions, report: Report
) -> Iterator[TableRow | Damaged]:
    encoding = detect_encoding(file, options.encoding)
    separator = _separator_of_text(file, encoding, options)
    if separator is None:
        report.encoding = encoding
        yield from read_text(open_lines(file, encoding), report)
    else:
        source = TableSource(file, is_url, separator, options.encoding)
        yield from read_table(source, options.wanted(WANTED), report)


def _separator_of_text(file: IO[bytes], encoding: str, options: ReadingOptions) -> str | None:
    """Return the separator where a text file is a table, such as Excel's Unicode text."""
    lines = (line.text for line in open_lines(file, encoding) if line.text.strip(_MARKS))
    first = next(islice(lines, 1), "")
    if "\t" in first.strip():
        return "\t"
    for separator in (",", ";"):
        cells = split(first, separator, is_quoted=True)
        if len(cells) > 1 and not is_url(cells[0]) and find_columns(cells, options.wanted(WANTED)):
            return separator
    if options.url_column or options.text_column:
        raise NoHeaderError(missing([first.strip()], options.wanted(WANTED)))
    return None


def _refusing(rows: Iterator[Row]) -> Iterator[Row]:
    """Turn what a reader of tables says of a table as a whole into what a list says."""
    try:
        yield from rows
    except NoHeaderError as error:
        detail = str(error)
        raise MalformedListError(detail, [reject(1, "", "no_url_column", detail)]) from error
    except (TableGivenUpError, UnknownEncodingError) as error:
        raise MalformedListError(str(error)) from error
