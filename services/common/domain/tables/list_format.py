"""Formats of lists and archives: detected by file name, content type or first bytes, or given."""

import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import PurePath
from typing import IO

from services.common.domain.tables.columns import Wanted


class ListFormat(StrEnum):
    """Format of a list."""

    TEXT = "text"
    TABLE = "table"
    TSV = "tsv"
    JSON = "json"
    JSON_LINES = "json-lines"
    PARQUET = "parquet"


class ArchiveFormat(StrEnum):
    """Format of an archive."""

    ZIP = "zip"
    TAR = "tar"


@dataclass(frozen=True)
class ReadingOptions:
    """Explicit format of a file of rows.

    Args:
        encoding: Of its text; None: detected.
        url_column: Name of the image column; None: a usual name.
        text_column: Name of the text column.
        group_column: Name of the column of documents, pages or writers.
        pages: Whether its images are pages.
    """

    encoding: str | None = None
    url_column: str | None = None
    text_column: str | None = None
    group_column: str | None = None
    pages: bool = False

    @property
    def given(self) -> tuple[str, ...]:
        """Identity of this way to read the bytes; empty by default."""
        return tuple(f"{name}={value}" for name, value in asdict(self).items() if value)

    def wanted(self, usual: Wanted) -> Wanted:
        """Return the columns to look for; ``usual`` is the default of those not named."""
        return replace(
            usual,
            url_column=self.url_column,
            text_column=self.text_column,
            group_column=self.group_column,
            pages=self.pages,
        )

    @property
    def names_columns(self) -> bool:
        """Whether a column is named, so that a header is required."""
        return bool(self.url_column or self.text_column or self.group_column)


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
_ZIP_MARKS = (b"PK\x03\x04", b"PK\x05\x06")
_TAR_MARK_AT = 257
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


def sniff_archive(start: bytes) -> ArchiveFormat | None:
    """Return the format of an archive by its first 512 (decompressed) bytes, or None."""
    if start.startswith(_ZIP_MARKS):
        return ArchiveFormat.ZIP
    if start[_TAR_MARK_AT:].startswith(b"ustar"):
        return ArchiveFormat.TAR
    return None


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
