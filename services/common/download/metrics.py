"""Metrics of downloads, with a name per service."""

from prometheus_client import CollectorRegistry, Counter, Histogram

_EDGES = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class DownloadMetrics:
    """Metrics of one service's downloads.

    Args:
        registry: Where they are registered, once.
        service: First word of their names.
    """

    def __init__(self, registry: CollectorRegistry, *, service: str) -> None:
        self.bytes = Counter(
            f"{service}_download_bytes_total",
            "Bytes of bodies read from hosts.",
            registry=registry,
        )
        self.seconds = Histogram(
            f"{service}_download_duration_seconds",
            "Time from request to the end of the body.",
            buckets=_EDGES,
            registry=registry,
        )
