"""Dashboard of containers, like community dashboard 193 with cAdvisor's current metric names."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from infra.monitoring.dashboards.board import Block, dashboard
from infra.monitoring.dashboards.panels import Query, number, series

UID = "docreco-containers"
NAME = "{{name}}"


def build() -> Dashboard:
    """Return the dashboard."""
    return dashboard(
        "Containers",
        uid=UID,
        description="CPU, memory, network and restarts. Empty without containers; where there are "
        "some, ContainerMetricsMissing in docs/monitoring.md says why.",
        since="now-1h",
        blocks=[_now(), _use()],
    )


def _now() -> Block:
    running = number(
        "Containers running",
        "Fewer than docker compose ps -a lists: one has ended; its log says why.",
        "short",
        Query("count(container_start_time_seconds)", "running"),
        width=6,
    )
    cpu = number(
        "CPU, all containers",
        "In cores. At the machine's number of cores everything slows down: give fewer threads to "
        "the OCR API or more cores to the machine.",
        "none",
        Query("sum(rate(container_cpu_usage_seconds_total[$__rate_interval]))", "cores"),
        width=6,
        decimals=2,
    )
    memory = number(
        "Memory, all containers",
        "What cannot be given back. Near the machine's memory the kernel ends the largest one.",
        "bytes",
        Query("sum(container_memory_working_set_bytes)", "memory"),
        width=6,
        decimals=None,
    )
    restarts = number(
        "Restarts, in this period",
        "Any but zero deserves a look at that container's log, at the time of the step below. A "
        "container that was created again is another one, and no restart.",
        "short",
        Query("sum(changes(container_start_time_seconds[$__range]))", "restarts"),
        width=6,
    )
    return Block("Now", [running, cpu, memory, restarts])


def _use() -> Block:
    cpu = series(
        "CPU per container",
        "In cores. The OCR API is expected to use all it may while images wait; any other at a "
        "full core for long is stuck in a loop.",
        "none",
        Query("sum by (name) (rate(container_cpu_usage_seconds_total[$__rate_interval]))", NAME),
        stacked=True,
    )
    memory = series(
        "Memory per container",
        "What cannot be given back. A line that only rises for hours is a leak; one that ends at "
        "its limit was ended by the kernel: see restarts.",
        "bytes",
        Query("sum by (name) (container_memory_working_set_bytes)", NAME),
        stacked=True,
    )
    received = series(
        "Network received per container",
        "The fetcher receives what it downloads, MinIO what is stored. Any other peak is "
        "an upload.",
        "Bps",
        Query(
            "sum by (name) (rate(container_network_receive_bytes_total[$__rate_interval]))", NAME
        ),
    )
    sent = series(
        "Network sent per container",
        "MinIO sends each image once to the consumer, which sends it on to the OCR API. MinIO far "
        "above the consumer: an export, or another reader of the bucket.",
        "Bps",
        Query(
            "sum by (name) (rate(container_network_transmit_bytes_total[$__rate_interval]))", NAME
        ),
    )
    restarts = series(
        "Restarts per container",
        "A step is a restart. Several of one container: its log before each step says why.",
        "short",
        Query("sum by (name) (changes(container_start_time_seconds[$__rate_interval]))", NAME),
        width=24,
        bars=True,
    )
    return Block("Per container", [cpu, memory, received, sent, restarts])
