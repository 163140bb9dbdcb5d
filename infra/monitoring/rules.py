"""Read Prometheus' rules from their files, the only definition of thresholds."""

import re
from collections.abc import Mapping
from typing import Any, Literal

import yaml

from infra.monitoring.render import SOURCE


def rules(kind: Literal["alert", "record"]) -> Mapping[str, Mapping[str, Any]]:
    """Return all alerts, or all recording rules, by name."""
    groups = [
        group
        for path in sorted((SOURCE / "rules").glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
    ]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


def critical_threshold() -> float:
    """Return the mean score under which it is critical."""
    expression = rules("record")["ocr:prediction_score:critical_threshold"]["expr"]
    found = re.fullmatch(r"vector\(([\d.]+)\)", expression)
    if found is None:
        raise ValueError(f"the critical threshold is no constant: {expression}")
    return float(found[1])
