"""CPU time of processes: the cost of work, independent of other load."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from infra.local.ports import holder_of
from infra.local.stack import Addresses

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return what a process has used so far, its ended threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def servers_of(addresses: Addresses) -> dict[str, int]:
    """Return the processes that listen at the addresses, those that can be seen, by server."""
    found: dict[str, int] = {}
    for name, url in (
        ("MinIO", addresses.s3_endpoint_url),
        ("MongoDB", addresses.mongo_url.get_secret_value()),
        ("RabbitMQ", addresses.amqp_url.get_secret_value()),
    ):
        with suppress(ValueError, TypeError):
            holder = re.search(r"process (\d+)", holder_of(urlsplit(url).port or 0) or "")
            if holder:
                found[name] = int(holder[1])
    return found


@contextmanager
def cpu_of(processes: Mapping[str, int], used: dict[str, float]) -> Iterator[None]:
    """Add what processes use during the ``with`` block, in seconds, to ``used``, by name."""
    before = {name: cpu_seconds(pid) for name, pid in processes.items()}
    try:
        yield
    finally:
        for name, pid in processes.items():
            used[name] = used.get(name, 0.0) + cpu_seconds(pid) - before[name]
