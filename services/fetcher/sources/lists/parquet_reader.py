"""Read Parquet in a child process, as the reader is C++ and the file untrusted."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import date
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.common.domain.annotations import MAX_ANNOTATION_LENGTH
from services.common.domain.details import Details
from services.common.domain.pieces import in_pieces
from services.common.domain.tables.columns import Columns, Wanted, find_columns, missing
from services.common.download.urls import MAX_URL_LENGTH
from services.common.runtime.bounded_child import InputRefusedError

BATCH_ROWS = 500
_MOST = max(MAX_URL_LENGTH, MAX_ANNOTATION_LENGTH) + 1


def rows(file: IO[bytes], wanted: dict[str, Any]) -> Iterator[Any]:
    """Yield the used columns, then lists of rows.

    Each row is its number, URL, annotation and error, then the fields of its ``Details`` and
    dropped ones. Too long texts are truncated.

    Raises:
        InputRefusedError: It is not Parquet, or lacks the columns.
    """
    with refusing():
        yield from _rows(file, Wanted(**wanted))


@contextmanager
def refusing() -> Iterator[None]:
    """Translate Arrow's errors, except memory errors, into a refusal."""
    try:
        yield
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputRefusedError(str(error)) from error


def _rows(file: IO[bytes], wanted: Wanted) -> Iterator[Any]:
    schema = pq.read_schema(file)
    columns = find_columns(schema.names, wanted)
    if columns is None:
        raise InputRefusedError(missing(schema.names, wanted))
    columns = without_binary_columns(columns, schema)
    kinds = {
        place: kind_of(schema.field(place))
        for place in (columns.where, columns.text)
        if place is not None
    }
    where = kinds[columns.where]
    if not (_is_text(where) or pa.types.is_null(where) or pa.types.is_binary(where)):
        raise InputRefusedError(_no_text(schema.names[columns.where], where))
    yield asdict(columns)
    # a dictionary stores a repeated long text once
    names = names_of(columns)
    texts = [name for name in names if _is_text(schema.field(name).type)]
    parquet = pq.ParquetFile(file, read_dictionary=texts, pre_buffer=False)
    number = 0
    for batch in parquet.iter_batches(BATCH_ROWS, columns=names, use_threads=False):
        urls = texts_of(batch.column(columns.names[columns.where]))
        annotations = annotations_of(batch, columns)
        found = []
        for (url, url_problem), (annotation, problem), details in zip(
            urls, annotations, details_of(batch, columns), strict=True
        ):
            number += 1
            found.append((number, url, annotation, url_problem or problem, *details))
        yield from in_pieces(found, BATCH_ROWS, length=_length, most_length=_MOST)


def _length(row: tuple[int, Any, Any, str, dict[str, Any], str]) -> int:
    _, url, annotation, _, details, _ = row
    return len(url or "") + len(annotation or "") + Details.from_fields(details).length


def without_binary_columns(columns: Columns, schema: pa.Schema) -> Columns:
    """Drop columns of types that JSON can't represent, such as bytes."""
    kept = tuple(place for place in columns.metadata if _has_json(schema.field(place).type))
    return replace(columns, metadata=kept)


def names_of(columns: Columns) -> list[str]:
    """Return the names of the columns to read.

    Raises:
        InputRefusedError: A name is not unique: columns are read by their names.
    """
    names = [columns.names[place] for place in sorted(columns.places)]
    if twice := next((name for name in names if columns.names.count(name) > 1), None):
        raise InputRefusedError(f"several columns are named {twice[:100]!r}")
    return names


def annotations_of(batch: pa.RecordBatch, columns: Columns) -> list[tuple[str | None, str]]:
    """Return the texts of rows with their errors."""
    if columns.text is None:
        return [(None, "")] * batch.num_rows
    return texts_of(batch.column(columns.names[columns.text]))


def details_of(batch: pa.RecordBatch, columns: Columns) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the fields of rows' ``Details``, with the dropped ones."""
    nothing = [None] * batch.num_rows
    places = {*columns.roles.values(), *columns.metadata, *columns.naming}
    values = [
        _values_of(batch.column(name)) if place in places else nothing
        for place, name in enumerate(columns.names)
    ]
    for row in zip(*values, strict=True):
        details, problem = columns.details(row)
        yield details.to_fields(), problem


def _values_of(column: pa.Array) -> list[Any]:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if _is_text(kind):
        return [value for value, _ in texts_of(column)]
    if pa.types.is_temporal(kind):
        column = column.cast(pa.string())  # Python has no nanoseconds
    values: list[Any] = column.to_pylist()
    return values


def _has_json(kind: pa.DataType, *, is_within: bool = False) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        return _has_json(kind.value_type)
    if types.is_struct(kind):
        return all(_has_json(each.type, is_within=True) for each in kind)
    if types.is_list(kind) or types.is_large_list(kind):
        return _has_json(kind.value_type, is_within=True)
    is_time = types.is_timestamp(kind) or types.is_date(kind) or types.is_time(kind)
    is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    is_plain = _is_text(kind) or types.is_null(kind) or types.is_boolean(kind)
    return is_plain or is_number or (is_time and not is_within)


def kind_of(field: pa.Field) -> pa.DataType:
    """Return the type of a column, which must have a unique text form.

    Raises:
        InputRefusedError: It has not: 1914.0 may have been 1914, and a time has many forms.
    """
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    types = pa.types
    if (
        _is_text(kind)
        or types.is_null(kind)
        or types.is_integer(kind)
        or types.is_decimal(kind)
        or types.is_date(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
    ):
        return kind
    raise InputRefusedError(_no_text(field.name, kind))


def _no_text(name: str, kind: pa.DataType) -> str:
    holds = f"the column {name[:100]} holds {str(kind)[:100]}"
    if holds_images(kind):
        return f"{holds}: images, not URLs; docreco submit FILE stores them in the bucket"
    if pa.types.is_nested(kind):
        read = "URLs as text, and images as struct<bytes: binary, path: string>, are read"
        return f"{holds}, not text: {read}"
    return f"{holds}, not text: write it as text"


def holds_images(kind: pa.DataType) -> bool:
    """Return whether a column holds images as of Hugging Face datasets."""
    types = pa.types
    if not types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        return False
    content = kind.field("bytes").type
    return bool(types.is_binary(content) or types.is_large_binary(content))


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def texts_of(column: pa.Array) -> list[tuple[str | None, str]]:
    """Return the values of a column as texts with their errors.

    Too long ones are truncated, but long enough to be refused.
    """
    if pa.types.is_dictionary(column.type):
        places = column.indices.to_pylist()
        used = sorted({place for place in places if place is not None})
        values = texts_of(column.dictionary.take(pa.array(used, pa.int32())))
        known = dict(zip(used, values, strict=True))
        return [(None, "") if place is None else known[place] for place in places]
    if _is_text(column.type):
        strings = column.cast(pa.large_string()) if _is_view(column.type) else column
        cut = pc.utf8_slice_codeunits(strings, 0, _MOST).to_pylist()
        return [(value, "") for value in cut]
    return [_text(value) for value in column.to_pylist()]


def _is_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string_view(kind))


def _text(value: object) -> tuple[str | None, str]:
    if value is None:
        return None, ""
    if isinstance(value, bytes):
        try:
            return value[: _MOST * 4].decode(), ""
        except UnicodeDecodeError:
            return None, "its bytes are not UTF-8"
    if isinstance(value, date):
        return value.isoformat(), ""
    return str(value), ""
