"""Files of Prometheus and Alertmanager in which everything happens sooner."""

import re
from pathlib import Path
from typing import Any

import yaml

SHORTEST_SCRAPE_SECONDS = 0.5
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
DURATION = re.compile(r"(\d+)(ms|[smhdw])")
SPAN = re.compile(r"(?<=\[)(?:\d+(?:ms|[smhdw]))+(?=\])|(?<=\boffset )(?:\d+(?:ms|[smhdw]))+")
"""A range or an offset of an expression."""
PACES = ("for", "interval", "group_wait", "group_interval", "repeat_interval")
SCRAPES = ("scrape_interval", "scrape_timeout", "evaluation_interval")


def hasten_files(folder: Path, faster: float) -> None:
    """Divide all durations of the files in a folder; scrapes come every half second at most."""
    for path in folder.rglob("*.yml"):
        content = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump(_hastened(content, faster), sort_keys=False))


def hasten(expression: str, faster: float) -> str:
    """Divide the ranges and offsets of an expression."""
    return SPAN.sub(lambda found: _duration(_seconds(found[0]) / faster), expression)


def _hastened(node: Any, faster: float) -> Any:
    if isinstance(node, list):
        return [_hastened(item, faster) for item in node]
    if not isinstance(node, dict):
        return node
    found = {}
    for key, value in node.items():
        if key in PACES:
            found[key] = _duration(_seconds(value) / faster)
        elif key in SCRAPES:
            found[key] = _duration(max(SHORTEST_SCRAPE_SECONDS, _seconds(value) / faster))
        else:
            found[key] = hasten(value, faster) if key == "expr" else _hastened(value, faster)
    return found


def _seconds(duration: str) -> float:
    return sum(int(number) * SECONDS[unit] for number, unit in DURATION.findall(duration))


def _duration(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"
