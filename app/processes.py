"""Tuning of this process (glibc malloc, libtiff), and process metrics of all workers."""

import ctypes
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from prometheus_client import Metric, ProcessCollector
from prometheus_client.registry import Collector
from typing_extensions import override

PROCESSES = Path("/proc")

_MMAP_THRESHOLD = -3
"""M_MMAP_THRESHOLD of malloc.h."""
_LIBTIFF = re.compile(r"/\S*/libtiff\S*")


class ProcessesCollector(Collector):
    """Collect prometheus_client's ``process_*`` metrics for several processes.

    Labelled by ``pid``: sum them for the service. Empty without ``/proc``.
    """

    def __init__(self, parent: int) -> None:
        self._parent = parent

    @override
    def collect(self) -> Iterable[Metric]:
        """Return the current metrics of the parent and its children."""
        metrics: dict[str, Metric] = {}
        for pid in (self._parent, *_children(self._parent)):
            for own in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                metric = metrics.setdefault(own.name, Metric(own.name, own.documentation, own.type))
                for sample in own.samples:
                    metric.add_sample(sample.name, {"pid": str(pid)}, sample.value)
        return metrics.values()


def _children(parent: int) -> Iterator[int]:
    """Yield the ids of child processes."""
    for path in (PROCESSES / str(parent) / "task").glob("*/children"):
        try:
            pids = path.read_text().split()
        except OSError:  # the thread has just ended
            continue
        yield from map(int, pids)


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
