"""Process metrics (memory, CPU time) of all worker processes."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from prometheus_client import Metric, ProcessCollector
from prometheus_client.registry import Collector
from typing_extensions import override

PROCESSES = Path("/proc")


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
