"""Lists as Parquet files, read by a process of its own.

A few bytes of Parquet can ask for any amount of memory, and its reader is C++: so it reads in a
child whose memory and time the kernel limits, and what comes back is lines.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import IO

from services.fetcher.lists.rows import MalformedListError, Row, to_row

MEMORY_BYTES = 768 * 1024 * 1024
"""Of the child, its libraries included; row groups of usual writers take a fraction of it."""
CPU_SECONDS = 300


def parse_parquet(file: IO[bytes]) -> Iterator[Row]:
    """Yield an item or a rejection for each row; rows count from 1.

    Args:
        file: Has a file descriptor.

    Raises:
        MalformedListError: It is no such file, has no column of URLs, or takes too much to read.
    """
    file.seek(0)
    with subprocess.Popen(  # noqa: S603 - our own program
        [
            sys.executable,
            "-m",
            "services.fetcher.lists.parquet_reader",
            str(MEMORY_BYTES),
            str(CPU_SECONDS),
        ],
        stdin=file.fileno(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as reader:
        try:
            yield from _rows(reader)
        finally:
            reader.kill()


def _rows(reader: "subprocess.Popen[bytes]") -> Iterator[Row]:
    for line in reader.stdout or ():
        told = json.loads(line)
        if isinstance(told, str):
            raise MalformedListError(told)
        number, url, annotation = told
        yield to_row(number, url, annotation)
    if reader.wait():
        raise MalformedListError(
            f"not a Parquet file that can be read within {MEMORY_BYTES // 2**20} MiB of memory"
        )
