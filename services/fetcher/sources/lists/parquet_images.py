"""Read images from Parquet files, as written by Hugging Face datasets.

Their column is a struct of ``bytes`` and ``path``. A bounded child process reads it in batches, in
constant memory.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from services.common.domain.details import NO_DETAILS, Details
from services.common.domain.sizes import MAX_IMAGE_BYTES
from services.common.domain.tables.columns import Wanted, find_columns, missing
from services.common.domain.tables.list_format import ReadingOptions
from services.common.domain.tables.report import Report
from services.common.runtime.bounded_child import BoundedChild, ChildLimits, InputRefusedError
from services.fetcher.sources.lists.parquet import MEMORY_BYTES, describe, results_of
from services.fetcher.sources.lists.parquet_reader import (
    annotations_of,
    details_of,
    holds_images,
    kind_of,
    names_of,
    refusing,
    without_binary_columns,
)
from services.fetcher.sources.lists.rows import WANTED, ListItem, check_annotation

BATCH_ROWS = 16
MAX_NAME_LENGTH = 1000
CPU_SECONDS = 3600
_STREAM_BYTES = 256 * 1024
"""Read-ahead of a column, instead of a whole row group."""
_TARGET = "services.fetcher.sources.lists.parquet_images:rows_in_child"


@dataclass(frozen=True)
class ImageRow:
    """A row with an image, or with the reason of its rejection."""

    line: int
    """Its number, from 1."""
    name: str
    """Path in the row, or its number."""
    content: bytes
    annotation: str | None = None
    details: Details = NO_DETAILS
    code: str = ""
    """Reason of a rejection, or empty."""


OpenSet = Callable[
    [IO[bytes], ReadingOptions, Report], AbstractContextManager[Iterator[ImageRow] | None]
]
"""Opens a file of images with their texts."""


@contextmanager
def open_images(
    file: IO[bytes], options: ReadingOptions, report: Report
) -> Iterator[Iterator[ImageRow] | None]:
    """Yield the images of a Parquet file, or None if it has none, for a ``with`` block.

    Args:
        file: Has a file descriptor; not to be used inside the block.
        options: Which columns are the texts and the groups.
        report: Complete after the last row.

    Raises:
        MalformedListError: It can't be read, or has no such column; also while reading rows.
    """
    limits = ChildLimits(MEMORY_BYTES, CPU_SECONDS, max_result_bytes=2 * MAX_IMAGE_BYTES)
    with BoundedChild(_TARGET, file, limits, asdict(options.wanted(WANTED))) as child:
        results = results_of(child)
        columns = next(results)
        if columns is None:
            yield None
            return
        describe(report, columns)
        yield image_rows(results, report, pages=options.pages)


def image_rows(
    results: Iterator[Any], report: Report, *, pages: bool = False
) -> Iterator[ImageRow]:
    """Yield the rows that a child sends, each checked and counted."""
    for number, path, content, text, code, said, dropped in results:
        report.rows += 1
        name = path or f"row {number}"
        details = report.noted(number, Details.from_fields(said), dropped)
        details = replace(details, is_page=True) if pages else details
        checked, details = report.checked(number, text, details)
        row = check_annotation(number, name, checked)
        if code or not isinstance(row, ListItem):
            report.damaged += 1
            yield ImageRow(number, name, b"", code=code or "invalid_annotation")
        else:
            report.with_text += row.annotation is not None
            yield ImageRow(number, name, b64decode(content), row.annotation, details)


def rows_in_child(file: IO[bytes], wanted: dict[str, Any]) -> Iterator[Any]:
    """Yield the used columns, or None without images, then each row; runs in the child.

    Raises:
        InputRefusedError: It is not Parquet, or has no column of the given name.
    """
    with refusing():
        yield from _rows(file, Wanted(**wanted))


def _rows(file: IO[bytes], wanted: Wanted) -> Iterator[Any]:
    schema = pq.read_schema(file)
    images = next((field.name for field in schema if holds_images(field.type)), None)
    if images is None:
        yield None
        return
    wanted = replace(wanted, url_column=images)
    columns = find_columns(schema.names, wanted)
    if columns is None:
        raise InputRefusedError(missing(schema.names, wanted))
    if columns.text is not None:
        kind_of(schema.field(columns.text))
    columns = without_binary_columns(columns, schema)
    yield asdict(columns)
    names = names_of(columns)
    parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=_STREAM_BYTES)
    number = 0
    for batch in parquet.iter_batches(BATCH_ROWS, columns=names, use_threads=False):
        texts, said = annotations_of(batch, columns), details_of(batch, columns)
        found = zip(batch.column(images), texts, said, strict=True)
        for image, (annotation, problem), details in found:
            number += 1
            path, content, code = _image(image)
            code = code or (problem and "invalid_annotation")
            yield number, path, content, annotation, code, *details


def _image(value: pa.StructScalar) -> tuple[str, str, str]:
    """Return the name of an image, its bytes in base64, and the code of an error."""
    if not value.is_valid:
        return "", "", "no_image_bytes"
    path = value["path"].as_py() if "path" in value else None
    name = path[:MAX_NAME_LENGTH] if isinstance(path, str) else ""
    content = value["bytes"]
    if not content.is_valid:
        return name, "", "no_image_bytes"
    buffer = content.as_buffer()
    if buffer.size > MAX_IMAGE_BYTES:
        return name, "", "too_large"
    return name, b64encode(buffer).decode(), ""
