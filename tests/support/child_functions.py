"""Functions that tests run in bounded children."""

import os
import resource
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import IO, Any

from services.common.runtime.bounded_child import InputRefusedError


def lines(file: IO[bytes], *args: Any) -> Iterator[Any]:
    yield from args
    yield from (line.decode() for line in file)


def environment(_: IO[bytes]) -> Iterator[dict[str, str]]:
    yield dict(os.environ)


def limits(_: IO[bytes]) -> Iterator[Any]:
    yield [resource.getrlimit(each)[0] for each in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE)]
    yield int(Path("/proc/self/oom_score_adj").read_text())


def refusing(_: IO[bytes]) -> Iterator[int]:
    yield 1
    raise InputRefusedError("not today")


def failing(_: IO[bytes]) -> Iterator[int]:
    yield 1
    raise KeyError("bug")


def dying(_: IO[bytes]) -> Iterator[int]:
    yield 1
    os.abort()


def greedy(_: IO[bytes]) -> Iterator[int]:
    yield len([bytes([each]) * 2**20 for each in range(256)])


def spinning(_: IO[bytes]) -> Iterator[str]:
    yield "x" * 9000  # more than is buffered
    for _number in count():
        pass


def endless(_: IO[bytes]) -> Iterator[str]:
    yield "x" * 10_000


def size(file: IO[bytes]) -> Iterator[int]:
    yield len(file.read())
