"""Render Prometheus' and Alertmanager's files with the addresses of one machine.

Compose mounts the committed files; child processes get a copy made here.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

SOURCE = Path(__file__).parents[2] / "prometheus"
REVIEW = "127.0.0.1:8082"
"""Address of the review service in the committed rules."""
RUNBOOKS = f"http://{REVIEW}/alerts"
"""Pages of alerts."""


def write_prometheus(folder: Path, targets: Mapping[str, str]) -> Path:
    """Write configuration, rules and addresses into a folder; return the configuration's path.

    Args:
        folder: Created if missing; old rules and addresses are removed.
        targets: ``host:port`` by job of ``prometheus.yml``, including ``alertmanager``; other jobs
            are not scraped. Jobs with DNS discovery use a file instead.
    """
    config = _load(SOURCE / "prometheus.yml")
    for job in config["scrape_configs"]:
        if job.pop("dns_sd_configs", None):
            job["file_sd_configs"] = [{"files": [f"targets/{job['job_name']}.yml"]}]
    for name in ("rules", "targets"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    for path in sorted((SOURCE / "rules").glob("*.yml")):
        review = targets.get("review", REVIEW)
        text = path.read_text().replace(f"http://{REVIEW}/", f"http://{review}/")
        _dump(yaml.safe_load(text), folder / "rules" / path.name)
    for job, address in targets.items():
        _dump([{"targets": [address]}], folder / "targets" / f"{job}.yml")
    return _dump(config, folder / "prometheus.yml")


def write_alertmanager(folder: Path, *, webhook_url: str) -> Path:
    """Write Alertmanager's configuration into a folder; return its path.

    Args:
        folder: Created if missing.
        webhook_url: Base address of the receiver, in place of compose's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = _load(SOURCE / "alertmanager.yml")
    for receiver in config["receivers"]:
        for webhook in receiver.get("webhook_configs", ()):
            webhook["url"] = f"{webhook_url.rstrip('/')}/{receiver['name']}"
    return _dump(config, folder / "alertmanager.yml")


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def _dump(content: Any, path: Path) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
