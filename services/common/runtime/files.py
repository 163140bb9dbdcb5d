"""Read whole files within limits of their size."""

import os
from pathlib import Path

from services.common.domain.sizes import MEBIBYTE


class FileTooLargeError(Exception):
    """A file exceeds its limit."""


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: It can't be read.
        FileTooLargeError: It is too large; nothing was read then.
    """
    with path.open("rb") as file:
        check_size(os.fstat(file.fileno()).st_size, max_bytes)
        content = file.read(max_bytes + 1)  # it may have grown since
    check_size(len(content), max_bytes)
    return content


def check_size(size: int, max_bytes: int) -> None:
    """Raise FileTooLargeError unless a file is small enough."""
    if size > max_bytes:
        raise FileTooLargeError(f"larger than {max_bytes // MEBIBYTE} MiB, its limit")
