"""Reads Parquet; in a child process, since it is C++ and the file is a stranger's."""

from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.common.bounded_child import InputRefusedError
from services.common.download.urls import MAX_URL_LENGTH
from services.fetcher.lists.rows import MAX_ANNOTATION_LENGTH
from services.fetcher.lists.table import ANNOTATION_COLUMNS, URL_COLUMNS, find_column

BATCH_ROWS = 1000


def rows(file: IO[bytes]) -> Iterator[tuple[int, Any, Any]]:
    """Yield number, URL and annotation of each row; texts that are too long are cut.

    Raises:
        InputRefusedError: It is not Parquet, or has no such columns.
    """
    try:
        yield from _rows(file)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputRefusedError(str(error)) from error


def _rows(file: IO[bytes]) -> Iterator[tuple[int, Any, Any]]:
    schema = pq.read_schema(file)
    names = [
        name for name in (_column(schema, URL_COLUMNS), _column(schema, ANNOTATION_COLUMNS)) if name
    ]
    if not names or names[0] != _column(schema, URL_COLUMNS):
        raise InputRefusedError(
            f"no column is named {', '.join(URL_COLUMNS[:-1])} or {URL_COLUMNS[-1]}"
        )
    # as a dictionary, a long text that repeats is in memory once
    parquet = pq.ParquetFile(file, read_dictionary=names, pre_buffer=False)
    number = 0
    for batch in parquet.iter_batches(BATCH_ROWS, columns=names, use_threads=False):
        urls = _texts(batch.column(names[0]), MAX_URL_LENGTH)
        annotations = (
            _texts(batch.column(names[1]), MAX_ANNOTATION_LENGTH)
            if names[1:]
            else [None] * batch.num_rows
        )
        for url, annotation in zip(urls, annotations, strict=True):
            number += 1
            yield number, url, annotation


def _column(schema: pa.Schema, wanted: tuple[str, ...]) -> str | None:
    place = find_column(schema.names, wanted)
    if place is None:
        return None
    field = schema.field(place)
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputRefusedError(f"the column {field.name[:100]} holds {str(kind)[:100]}, not text")
    return str(field.name)


def _texts(column: pa.DictionaryArray, most: int) -> list[str | None]:
    """Return the texts of a column; of one that is too long just enough for it to be refused."""
    places = column.indices.to_pylist()
    used = sorted({place for place in places if place is not None})
    kept = column.dictionary.take(pa.array(used, pa.int32()))
    texts = dict(zip(used, pc.utf8_slice_codeunits(kept, 0, most + 1).to_pylist(), strict=True))
    return [None if place is None else texts[place] for place in places]
