"""Compute which stage is full first: ``python -m tests.bench.scaling [--rate 1000]``.

Each stage is a queue with exponential arrivals and service and some units that serve at the same
time (M/M/c; Erlang's C formula, as in Gross et al., Fundamentals of Queueing Theory, 2.3). A unit
is a core, or a thing that does one at a time: a notification target, the leader of a queue. Costs
are those that ``tests.bench.pipeline --json FILE`` measured, given by ``--costs FILE``, or the ones
below. Stages are taken as independent, and an image passes each once.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from services.common.adapters.collections import FETCHES, IMAGES, INDEXES
from services.provisioner.notification_rules import MOST_TARGETS

FULL = 0.7
"""Utilisation that is planned for: at more, waiting grows fast."""
MEASURED: Mapping[str, float] = {
    "ocr-api": 19.2,
    "consumer": 5.5,
    "minio": 3.9,
    "mongo": 2.9,
    "rabbitmq": 2.5,
    "fetcher": 1.7,
}
"""Milliseconds of a core for an image; two cores, OpenVINO in bfloat16, lines of 10 to 50 kB."""
TARGET_MS = 5.0
"""Of a target for an event: round trips to RabbitMQ, the slowest its confirmation (200/s)."""
LEADER_MS = 1000 / 2100
"""Of a quorum queue's leader for a confirmed message."""
QUEUES = {"leader of ocr.jobs": 1, "leaders of fetch.jobs.*": 16}
HOST_RATE = 2.0
"""Images a second that a host allows (``FETCHER_HOST_RATE``)."""
KEPT_SECONDS = 365 * 86_400
LISTED_PER_SECOND = 10_000
"""Objects that one pass of the reconciler compares; est."""
IMAGE_BYTES = 30_000


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline."""

    name: str
    seconds: float
    """Of one unit for an image."""
    turn: str
    """Setting or resource for more units."""
    most: float = math.inf
    """Units that one deployment can have."""

    def units(self, rate: float) -> int:
        """Return the units that the rate needs."""
        return max(1, math.ceil(rate * self.seconds / FULL))

    def largest_rate(self, units: float) -> float:
        """Return the images a second at which so many units are full."""
        return FULL * units / self.seconds

    def wait(self, rate: float, units: int) -> float:
        """Return the mean wait for a unit, in seconds; infinite if they do not suffice."""
        load = rate * self.seconds
        if load >= units:
            return math.inf
        blocked = 1.0  # Erlang's B, by its recursion in the number of units
        for number in range(1, units + 1):
            blocked = load * blocked / (number + load * blocked)
        waits = blocked / (1 - load / units * (1 - blocked))
        return waits * self.seconds / (units - load)


def stages(costs: Mapping[str, float]) -> Sequence[Stage]:
    """Return the stages, by costs in milliseconds."""

    def cores(name: str, turn: str) -> Stage:
        return Stage(f"{name}, cores", costs[name] / 1000, turn)

    turns = {
        "ocr-api": "replicas (HPA maxReplicas); a GPU; a smaller model",
        "consumer": "replicas, CONSUMER_PREFETCH",
        "minio": "servers of the store",
        "mongo": "cores; then shards by _id",
        "rabbitmq": "cores of the members",
        "fetcher": "replicas, up to 16",
    }
    queues = [
        Stage(name, LEADER_MS / 1000, "queues by prefix, each with its leader", most)
        for name, most in QUEUES.items()
    ]
    targets = Stage(
        "notification targets",
        TARGET_MS / 1000,
        "PROVISIONER_NOTIFICATION_TARGETS, for each server of MinIO; then MQTT or Kafka",
        MOST_TARGETS,
    )
    return [*(cores(name, turn) for name, turn in turns.items()), targets, *queues]


def table(costs: Mapping[str, float], rate: float) -> Table:
    """Return what the rate needs, the stages that are full first at the top."""
    found = Table("stage", "full at, images/s", "needed", "wait, ms", "turn")
    found.title = f"{rate:,.0f} images/s, units {FULL:.0%} in use"

    def first(stage: Stage) -> float:
        return stage.largest_rate(1 if stage.most == math.inf else stage.most)

    for stage in sorted(stages(costs), key=first):
        units = stage.units(rate)
        limit = f"{first(stage):,.0f}"
        limit += " a core" if stage.most == math.inf else f" with {stage.most:.0f}"
        needed = f"{units:,}" + (f" of {stage.most:.0f}" if units > stage.most else "")
        found.add_row(
            stage.name, limit, needed, f"{1000 * stage.wait(rate, units):.1f}", stage.turn
        )
    entries = {each: len(INDEXES[each]) + 1 for each in (IMAGES, FETCHES)}
    written = sum(entries.values())
    found.caption = (
        f"cores in all {sum(rate * cost / 1000 / FULL for cost in costs.values()):,.0f}; "
        f"hosts at {HOST_RATE:g}/s each {rate / HOST_RATE:,.0f}; "
        f"index entries written {rate * written:,.0f}/s ({written} an image); "
        f"messages through RabbitMQ {2 * rate:,.0f}/s (a job and an event an image); "
        f"{rate * IMAGE_BYTES * 86_400 / 1e12:,.1f} TB a day; a pass of the reconciler over a year "
        f"{rate * KEPT_SECONDS / LISTED_PER_SECOND / 3600:,.0f} h (est.)"
    )
    return found


def read_costs(path: Path) -> dict[str, float]:
    """Return the costs of ``tests.bench.pipeline --json``, by the names of ``MEASURED``."""
    figures = json.loads(path.read_text())
    return {name: figures[f"CPU of an image, {name}, ms"] for name in MEASURED}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scaling", description=__doc__)
    parser.add_argument("--rate", type=float, nargs="+", default=[10, 1000, 100_000])
    parser.add_argument("--costs", type=Path, help="what tests.bench.pipeline wrote by --json")
    given = parser.parse_args()
    costs = read_costs(given.costs) if given.costs else MEASURED
    for rate in given.rate:
        Console(file=sys.stdout).print(table(costs, rate))


if __name__ == "__main__":
    main()
