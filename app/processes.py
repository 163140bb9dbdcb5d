"""Memory and processor time of all processes of the service, where there are several."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from prometheus_client import Metric, ProcessCollector
from prometheus_client.registry import Collector
from typing_extensions import override

PROCESSES = Path("/proc")


class ProcessesCollector(Collector):
    """What prometheus_client shows of the process that it runs in, for each of several.

    ``process_*`` is labelled by ``pid``: add them up for the service. Nothing where there is no
    ``/proc``.

    Args:
        parent: Process id of the one that started all others.
    """

    def __init__(self, parent: int) -> None:
        self._parent = parent

    @override
    def collect(self) -> Iterable[Metric]:
        """Return the metrics of the parent and of its children at this moment."""
        metrics: dict[str, Metric] = {}
        for pid in (self._parent, *_children(self._parent)):
            for own in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                metric = metrics.setdefault(own.name, Metric(own.name, own.documentation, own.type))
                for sample in own.samples:
                    metric.add_sample(sample.name, {"pid": str(pid)}, sample.value)
        return metrics.values()


def _children(parent: int) -> Iterator[int]:
    """Yield the processes that any thread of a process started."""
    for path in (PROCESSES / str(parent) / "task").glob("*/children"):
        try:
            pids = path.read_text().split()
        except OSError:  # the thread has just ended
            continue
        yield from map(int, pids)
