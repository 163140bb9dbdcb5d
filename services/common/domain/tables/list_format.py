"""Formats of lists, detected by file name, content type or first bytes."""

import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from enum import StrEnum
from pathlib import PurePath
from typing import IO


class ListFormat(StrEnum):
    """Format of a list."""

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
    "application/vnd.ms-excel": ListFormat.TABLE,  # sent by browsers on Windows for .csv
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
_LMDB_MARK, _LMDB_MARK_AT = b"\xde\xc0\xef\xbe", 16
_SNIFFED_BYTES = 64 * 1024


def find_format(*, content_type: str | None, file_name: str | None = None) -> ListFormat | None:
    """Return the format by file name or content type, or None.

    A suffix ``.gz`` is ignored: ``list.csv.gz``.
    """
    name = (file_name or "").lower().removesuffix(".gz")
    by_suffix = _BY_SUFFIX.get(PurePath(name).suffix)
    media_type = (content_type or "").partition(";")[0].strip().lower()
    return by_suffix or _BY_CONTENT_TYPE.get(media_type)


def sniff_format(file: IO[bytes]) -> ListFormat:
    """Guess the format from the first bytes."""
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


def is_lmdb(start: bytes) -> bool:
    """Return whether a file that begins so is a database of LMDB (``data.mdb``)."""
    return start[_LMDB_MARK_AT:].startswith(_LMDB_MARK)


def is_json_lines(file: IO[bytes]) -> bool:
    """Return whether a JSON file has one object per line."""
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
