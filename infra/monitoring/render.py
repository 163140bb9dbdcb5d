"""Prometheus' and Alertmanager's files for one machine: the committed ones, with its addresses.

Compose mounts the committed files as they are; child processes get a copy made here.
"""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

SOURCE = Path(__file__).parents[2] / "prometheus"
SHORTEST_SCRAPE_SECONDS = 0.5
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
DURATION = re.compile(r"(\d+)(ms|[smhdw])")
SPAN = re.compile(r"(?<=\[)(?:\d+(?:ms|[smhdw]))+(?=\])|(?<=\boffset )(?:\d+(?:ms|[smhdw]))+")
"""A range or an offset of an expression."""
PACES = ("for", "interval", "group_wait", "group_interval", "repeat_interval")
"""Keys of rule and route files whose values are durations."""


def write_prometheus(folder: Path, targets: Mapping[str, str], *, faster: float = 1) -> Path:
    """Write configuration, rules and addresses into a folder; return the configuration's path.

    Args:
        folder: Made where it is missing; rules and addresses of an earlier time are removed.
        targets: ``host:port`` by job of ``prometheus.yml``; a job that is left out is not
            scraped. Alertmanager is one of them, ``alertmanager``. Jobs that are found by DNS are
            found here by a file, too.
        faster: Divides every duration, so that tests need not wait minutes; scrapes come no faster
            than every half second.
    """
    config = _load(SOURCE / "prometheus.yml")
    if faster != 1:
        scrape = max(
            SHORTEST_SCRAPE_SECONDS, _seconds(config["global"]["scrape_interval"]) / faster
        )
        config["global"] |= {
            "scrape_interval": _duration(scrape),
            "scrape_timeout": _duration(scrape),
            "evaluation_interval": _duration(scrape),
        }
    for job in config["scrape_configs"]:
        if job.pop("dns_sd_configs", None):
            job["file_sd_configs"] = [{"files": [f"targets/{job['job_name']}.yml"]}]
    for name in ("rules", "targets"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    for path in sorted((SOURCE / "rules").glob("*.yml")):
        _dump(_paced(path, faster), folder / "rules" / path.name)
    for job, address in targets.items():
        _dump([{"targets": [address]}], folder / "targets" / f"{job}.yml")
    return _dump(config, folder / "prometheus.yml")


def write_alertmanager(folder: Path, *, webhook_url: str, faster: float = 1) -> Path:
    """Write Alertmanager's configuration into a folder; return its path.

    Args:
        folder: Made where it is missing.
        webhook_url: Base address of the receiver, in place of compose's.
        faster: Divides every duration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = _paced(SOURCE / "alertmanager.yml", faster)
    for receiver in config["receivers"]:
        for webhook in receiver.get("webhook_configs", ()):
            webhook["url"] = f"{webhook_url.rstrip('/')}/{receiver['name']}"
    return _dump(config, folder / "alertmanager.yml")


def hasten(expression: str, faster: float) -> str:
    """Divide the ranges and offsets of an expression."""
    return SPAN.sub(lambda found: _duration(_seconds(found[0]) / faster), expression)


def _paced(path: Path, faster: float) -> Any:
    content = _load(path)
    return content if faster == 1 else _hastened(content, faster)


def _hastened(node: Any, faster: float) -> Any:
    """Return a copy of a rule or route file in which everything happens sooner."""
    if isinstance(node, dict):
        return {
            key: _duration(_seconds(value) / faster)
            if key in PACES
            else hasten(value, faster)
            if key == "expr"
            else _hastened(value, faster)
            for key, value in node.items()
        }
    return [_hastened(item, faster) for item in node] if isinstance(node, list) else node


def _seconds(duration: str) -> float:
    return sum(int(number) * SECONDS[unit] for number, unit in DURATION.findall(duration))


def _duration(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def _dump(content: Any, path: Path) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
