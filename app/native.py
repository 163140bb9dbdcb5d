"""Process-wide tuning of glibc malloc and libtiff logging."""

import ctypes
import re
from contextlib import suppress
from pathlib import Path

_MMAP_THRESHOLD = -3
"""M_MMAP_THRESHOLD of malloc.h."""
_LIBTIFF = re.compile(r"/\S*/libtiff\S*")


def return_freed_memory() -> None:
    """Make glibc return freed images to the system (mallopt(3)).

    Its dynamic threshold would keep them in each thread's arena after the first large one.
    """
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").mallopt(_MMAP_THRESHOLD, 1024 * 1024)


def silence_libtiff() -> None:
    """Stop libtiff from writing to standard error (TIFFSetErrorHandler(3tiff)).

    It reports each row of a corrupt image: thousands of log lines for a small file.
    """
    with suppress(OSError, AttributeError):  # no /proc, or libtiff not linked dynamically
        if loaded := _LIBTIFF.search(Path("/proc/self/maps").read_text()):
            ctypes.CDLL(loaded[0]).TIFFSetErrorHandler(None)
