"""Counters whose known series exist at zero."""

from collections.abc import Iterable, Sequence

from prometheus_client import REGISTRY, CollectorRegistry, Counter


def counter_at_zero(
    name: str,
    documentation: str,
    labels: Sequence[str],
    known: Iterable[Sequence[str]],
    *,
    registry: CollectorRegistry = REGISTRY,
) -> Counter:
    """Register a counter whose known series exist at zero.

    PromQL's ``increase()`` and ``rate()`` miss the first value of a series, so alerts would not see
    what is counted before the first scrape of a label value.

    Args:
        name: As Prometheus shows it.
        documentation: Help text.
        labels: Names of the labels.
        known: The label values of each series.
        registry: Where it is registered, once.
    """
    counter = Counter(name, documentation, labels, registry=registry)
    for values in known:
        counter.labels(*values)
    return counter
