"""Reads Parquet; in a child process, since it is C++ and the file is a stranger's."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.common.domain.annotations import MAX_ANNOTATION_LENGTH
from services.common.domain.tables.columns import Wanted, find_columns, missing
from services.common.download.urls import MAX_URL_LENGTH
from services.common.runtime.bounded_child import InputRefusedError, in_pieces

BATCH_ROWS = 500
_MOST = max(MAX_URL_LENGTH, MAX_ANNOTATION_LENGTH) + 1


def rows(file: IO[bytes], wanted: dict[str, Any]) -> Iterator[Any]:
    """Yield which columns are used, then lists of rows: number, URL, annotation, problem.

    Texts that are too long are cut.

    Raises:
        InputRefusedError: It is not Parquet, or has no such columns.
    """
    with refusing():
        yield from _rows(file, Wanted(**wanted))


@contextmanager
def refusing() -> Iterator[None]:
    """Refuse the file where Arrow can't read it; what takes too much memory is told apart."""
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
    names = [schema.names[place] for place in (columns.where, columns.text) if place is not None]
    kinds = [kind_of(schema.field(name)) for name in names]
    if not (_is_text(kinds[0]) or pa.types.is_null(kinds[0]) or pa.types.is_binary(kinds[0])):
        raise InputRefusedError(_no_text(names[0], kinds[0]))
    yield {"columns": columns.used, "ignored": columns.ignored}
    # as a dictionary, a long text that repeats is in memory once
    texts = [name for name, kind in zip(names, kinds, strict=True) if _is_text(kind)]
    parquet = pq.ParquetFile(file, read_dictionary=texts, pre_buffer=False)
    number = 0
    for batch in parquet.iter_batches(BATCH_ROWS, columns=names, use_threads=False):
        values = [texts_of(batch.column(name)) for name in names]
        if len(values) == 1:
            values.append([(None, "")] * batch.num_rows)
        found = []
        for (url, url_problem), (annotation, problem) in zip(*values, strict=True):
            number += 1
            found.append((number, url, annotation, url_problem or problem))
        yield from in_pieces(found, _length, most_items=BATCH_ROWS, most_length=_MOST)


def _length(row: tuple[int, Any, Any, str]) -> int:
    return len(row[1] or "") + len(row[2] or "")


def kind_of(field: pa.Field) -> pa.DataType:
    """Return what a column holds, which has to be something that has one written form.

    Raises:
        InputRefusedError: It has none: 1914.0 may have been 1914, and a time any of many forms.
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
    """Return whether a column holds images as Hugging Face datasets writes them."""
    types = pa.types
    if not types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        return False
    content = kind.field("bytes").type
    return bool(types.is_binary(content) or types.is_large_binary(content))


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def texts_of(column: pa.Array) -> list[tuple[str | None, str]]:
    """Return the values of a column as texts, each with what is wrong with it.

    Of one that is too long just enough is kept for it to be refused.
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
