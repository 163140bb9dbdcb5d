"""Every expression of the dashboards and alerts, as Prometheus gets it from Grafana."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from infra.monitoring.generate import FOLDER
from infra.monitoring.provisioning import grafana_alerts
from infra.monitoring.rules import rules

RATE_INTERVAL = "$__rate_interval"
RANGE = "$__range"


class Expression(NamedTuple):
    """One expression and where it stands."""

    where: str
    promql: str


def dashboard_expressions(*, rate_interval: str, period: str) -> Iterator[Expression]:
    """Yield the expressions of panels and marks of the committed dashboards.

    Args:
        rate_interval: What Grafana would put for ``$__rate_interval``.
        period: What it would put for ``$__range``.
    """
    for path in sorted((FOLDER / "dashboards").glob("*.json")):
        for where, expression in _of_board(json.loads(path.read_text())):
            promql = expression.replace(RATE_INTERVAL, rate_interval).replace(RANGE, period)
            yield Expression(f"{path.stem}: {where}", promql)


def alert_expressions() -> Iterator[Expression]:
    """Yield the expressions of Prometheus' alerts, and the values of Grafana's."""
    for name, rule in rules("alert").items():
        yield Expression(f"alert {name}", rule["expr"])
    for alert in grafana_alerts():
        yield Expression(f"Grafana alert {alert.name}", alert.value)


def recording_expressions() -> Iterator[Expression]:
    """Yield the expressions of the recording rules."""
    for name, rule in rules("record").items():
        yield Expression(f"rule {name}", rule["expr"])


def _of_board(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield f"{panel['title']} / {target['legendFormat']}", target["expr"]
    for mark in board["annotations"]["list"]:
        yield f"mark {mark['name']}", mark["expr"]
