"""The formats of lists, and how a list is told to be of one."""

import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from io import TextIOWrapper
from pathlib import PurePath
from typing import IO

from services.fetcher.lists.documents import (
    load_document,
    load_items,
    parse_items,
    parse_json_lines,
)
from services.fetcher.lists.lines import Line, bounded_lines, detect_encoding
from services.fetcher.lists.parquet import parse_parquet
from services.fetcher.lists.rows import Row
from services.fetcher.lists.table import parse_table
from services.fetcher.lists.text import parse_text


class ListFormat(StrEnum):
    """How a list is written."""

    TEXT = "text"
    TABLE = "table"
    JSON = "json"
    JSON_LINES = "json-lines"
    PARQUET = "parquet"


_BY_CONTENT_TYPE = {
    "text/plain": ListFormat.TEXT,
    "text/csv": ListFormat.TABLE,
    "application/csv": ListFormat.TABLE,
    "application/vnd.ms-excel": ListFormat.TABLE,  # what browsers on Windows call a .csv
    "text/tab-separated-values": ListFormat.TABLE,
    "application/json": ListFormat.JSON,
    "application/jsonl": ListFormat.JSON_LINES,
    "application/x-ndjson": ListFormat.JSON_LINES,
    "application/vnd.apache.parquet": ListFormat.PARQUET,
    "application/x-parquet": ListFormat.PARQUET,
}
_BY_SUFFIX = {
    ".txt": ListFormat.TEXT,
    ".csv": ListFormat.TABLE,
    ".tsv": ListFormat.TABLE,
    ".json": ListFormat.JSON,
    ".jsonl": ListFormat.JSON_LINES,
    ".ndjson": ListFormat.JSON_LINES,
    ".parquet": ListFormat.PARQUET,
}
_PARSERS: dict[ListFormat, Callable[[Iterable[Line]], Iterator[Row]]] = {
    ListFormat.TEXT: parse_text,
    ListFormat.TABLE: parse_table,
    ListFormat.JSON_LINES: parse_json_lines,
}


_PARQUET_MARK = b"PAR1"
_SNIFFED_BYTES = 64 * 1024


@dataclass(frozen=True)
class OpenList:
    """A list whose rows can be read once."""

    name: str | None
    rows: Iterator[Row]
    encoding: str | None = None
    """Of its text, as found; None where it is no text file."""


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
    if start.startswith(_PARQUET_MARK):
        return ListFormat.PARQUET
    encoding = "utf-16" if start.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
    text = start.decode(encoding, errors="replace").lstrip()
    first_line = text.partition("\n")[0].strip()
    if text.startswith("{"):
        return ListFormat.JSON_LINES if _is_object(first_line) else ListFormat.JSON
    is_url = first_line.lower().startswith(("http://", "https://", "#"))
    return ListFormat.TEXT if is_url and "\t" not in first_line else ListFormat.TABLE


def open_list(file: IO[bytes], list_format: ListFormat) -> OpenList:
    """Begin to read a list from the beginning of ``file``, which the caller closes.

    Raises:
        MalformedListError: It cannot be read; also while its rows are.
    """
    file.seek(0)
    if list_format is ListFormat.JSON:
        name, items = load_items(load_document(file.read()))
        return OpenList(name, parse_items(items))
    if list_format is ListFormat.PARQUET:
        return OpenList(None, parse_parquet(file))
    encoding = detect_encoding(file)
    return OpenList(None, _rows(file, list_format, encoding), encoding)


def _is_object(line: str) -> bool:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "items" not in document


def _rows(file: IO[bytes], list_format: ListFormat, encoding: str) -> Iterator[Row]:
    # latin-1 and its kin read any byte, and UTF-8 was checked: only UTF-16 can have a bad end
    text = TextIOWrapper(file, encoding=encoding, errors="replace")
    try:
        yield from _PARSERS[list_format](bounded_lines(text))
    finally:
        text.detach()
