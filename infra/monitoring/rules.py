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


def critical_threshold(of: str = "prediction_score") -> float:
    """Return the value that is critical, of the mean score or of another figure."""
    expression = rules("record")[f"ocr:{of}:critical_threshold"]["expr"]
    found = re.fullmatch(r"vector\(([\d.]+)\)", expression)
    if found is None:
        raise ValueError(f"the critical threshold is no constant: {expression}")
    return float(found[1])
