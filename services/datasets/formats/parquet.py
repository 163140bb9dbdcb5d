"""Parquet with embedded images, in the format of Hugging Face datasets."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from services.datasets.folder import Folder
from services.datasets.formats.writing import FACTS, facts_of, file_name
from services.datasets.manifest import ManifestRecord

ROWS_OF_A_GROUP = 100
ROWS_OF_TEXT = 1000
BYTES_OF_A_GROUP = 16 * 1024 * 1024
BYTES_OF_A_FILE = 256 * 1024 * 1024
"""Target size of a file, closed at the next end of a row group."""

_TEXTS = ("text", "origin", "sha256", *FACTS)
_FEATURES = {
    "image": {"_type": "Image"},
    **{name: {"dtype": "string", "_type": "Value"} for name in _TEXTS},
    "score": {"dtype": "float64", "_type": "Value"},
}
_SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        *((name, pa.string()) for name in _TEXTS),
        ("score", pa.float64()),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)


class _Part:
    """The rows of one split: the current row group, and the open file."""

    def __init__(self, folder: Folder, split: str) -> None:
        self._folder = folder
        self._split = split
        self._rows: list[dict[str, Any]] = []
        self._waiting_bytes = 0
        self._file_bytes = 0
        self._files = 0
        self._file: Any = None

    @property
    def _name(self) -> str:
        return f"data/{self._split}-{self._files:05}.parquet"

    def add(self, row: dict[str, Any], size: int) -> None:
        self._rows.append(row)
        self._waiting_bytes += size
        if len(self._rows) >= ROWS_OF_A_GROUP or self._waiting_bytes >= BYTES_OF_A_GROUP:
            self._write_group()
            if self._file_bytes >= BYTES_OF_A_FILE:
                self._close_file()

    def finish(self) -> None:
        if self._rows:
            self._write_group()
        if self._file is not None:
            self._close_file()

    def _write_group(self) -> None:
        if self._file is None:
            self._file = parquet.ParquetWriter(self._folder.path(self._name), _SCHEMA)
        self._file.write_table(pa.Table.from_pylist(self._rows, schema=_SCHEMA))
        self._file_bytes += self._waiting_bytes
        self._rows, self._waiting_bytes = [], 0

    def _close_file(self) -> None:
        self._file.close()
        self._folder.note(self._name)
        self._file, self._file_bytes = None, 0
        self._files += 1


class TextTable:
    """A file of text columns, which are read back without type inference.

    Args:
        path: Of the file.
        columns: Their names, except ``score``, which is a number.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._schema = pa.schema(
            [*((name, pa.string()) for name in columns), ("score", pa.float64())]
        )
        self._file = parquet.ParquetWriter(path, self._schema)
        self._rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        """Write one row."""
        self._rows.append(row)
        if len(self._rows) == ROWS_OF_TEXT:
            self._write_group()

    def close(self) -> None:
        """Write the last rows, and close the file."""
        self._write_group()
        self._file.close()

    def _write_group(self) -> None:
        if self._rows:
            self._file.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


class Parquet:
    """Files ``data/<split>-<number>.parquet`` of bounded size, in groups of bounded size."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._parts: dict[str, _Part] = {}

    def add(self, record: ManifestRecord, content: bytes, extension: str) -> None:
        """Write one image."""
        part = self._parts.setdefault(record.split, _Part(self._folder, record.split))
        row = {
            "image": {"bytes": content, "path": file_name(record, extension)},
            "text": record.label,
            "origin": record.origin.value,
            "sha256": record.sha256,
            **facts_of(record),
        }
        part.add(row, len(content))

    def finish(self) -> None:
        """Write the last groups and close the files."""
        for split in sorted(self._parts):
            self._parts[split].finish()
