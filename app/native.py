"""What the C libraries of this process are told once, since their own ways do not suit a server."""

import ctypes
import re
from contextlib import suppress
from pathlib import Path

_MMAP_THRESHOLD = -3
"""M_MMAP_THRESHOLD of malloc.h."""
_LIBTIFF = re.compile(r"/\S*/libtiff\S*")


def return_freed_memory() -> None:
    """Have glibc give freed pictures back to the system (mallopt(3)).

    By itself it learns from the first large one to keep them, in each thread's arena.
    """
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").mallopt(_MMAP_THRESHOLD, 1024 * 1024)


def silence_libtiff() -> None:
    """Have libtiff write nothing to standard error (TIFFSetErrorHandler(3tiff)).

    It says what is wrong with each row of a damaged image: a small file would be thousands of lines
    in the log.
    """
    with suppress(OSError, AttributeError):  # no /proc, or no libtiff of its own
        if loaded := _LIBTIFF.search(Path("/proc/self/maps").read_text()):
            ctypes.CDLL(loaded[0]).TIFFSetErrorHandler(None)
