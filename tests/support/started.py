"""Metrics of each service before any work."""

import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.metrics import CollectMetrics, OcrMetrics

ROOT = Path(__file__).parents[2]
START = {
    "consumer": "register_deliveries()",
    "fetcher": "",
    "reconciler": "",
    "review": "",
    "segmenter": "register_pages()",
}
"""Initialisation of a service's metrics at start, beside their import."""
ENGINE = {"engine": "rapidocr", "model_version": "1"}


class Series(NamedTuple):
    """A series of a metric."""

    metric: str
    labels: Mapping[str, str]
    value: float


class Exposition(NamedTuple):
    """An answer of ``/metrics``."""

    names: frozenset[str]
    """Of all metrics, those included that have no series yet."""
    series: tuple[Series, ...]


@cache
def at_start() -> Exposition:
    """Return what all services together expose when they start; the OCR API has its model."""
    answers = [_of_ocr_api(), *(_of_service(name, code) for name, code in START.items())]
    return Exposition(
        frozenset().union(*(each.names for each in answers)),
        tuple(series for each in answers for series in each.series),
    )


def parse(text: str) -> Exposition:
    """Read an answer of ``/metrics``."""
    names: set[str] = set()
    series = []
    for family in text_string_to_metric_families(text):
        names.add(f"{family.name}_total" if family.type == "counter" else family.name)
        if family.type == "histogram":
            names |= {f"{family.name}_{part}" for part in ("bucket", "count", "sum")}
        series += [Series(each.name, each.labels, each.value) for each in family.samples]
    return Exposition(frozenset(names), tuple(series))


def _of_service(name: str, start: str) -> Exposition:
    """Run a service's imports in an interpreter of their own: each exposes its own registry."""
    program = (
        f"from services.{name}.main import *\n{start}\n"
        "from prometheus_client import generate_latest\nprint(generate_latest().decode())"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return parse(done.stdout)


def _of_ocr_api() -> Exposition:
    registry = CollectorRegistry()
    OcrMetrics(registry, low_score_threshold=0.5).announce(**ENGINE)
    CollectMetrics(registry)
    return parse(generate_latest(registry).decode())
