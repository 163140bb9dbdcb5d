"""Lists as Parquet files.

A few bytes of Parquet can ask for any amount of memory, and its reader is C++: so a bounded child
process reads it.
"""

from collections.abc import Iterator
from typing import IO

from services.common.bounded_child import BoundedChild, ChildError, ChildLimits
from services.fetcher.lists.rows import MalformedListError, Row, to_row

MEMORY_BYTES = 768 * 1024 * 1024
"""Of the child, its libraries included; row groups of usual writers take a fraction of it."""
CPU_SECONDS = 300
_TARGET = "services.fetcher.lists.parquet_reader:rows"


def parse_parquet(file: IO[bytes]) -> Iterator[Row]:
    """Yield an item or a rejection for each row; rows count from 1.

    Args:
        file: Has a file descriptor.

    Raises:
        MalformedListError: It is no such file, has no column of URLs, or takes too much to read.
    """
    with BoundedChild(_TARGET, file, ChildLimits(MEMORY_BYTES, CPU_SECONDS)) as child:
        try:
            for number, url, annotation in child.results():
                yield to_row(number, url, annotation)
        except ChildError as error:
            raise MalformedListError(f"not a Parquet file that can be read: {error}") from error
