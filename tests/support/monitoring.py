"""Prometheus, Alertmanager and the example receiver beside a running pipeline, made faster."""

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from infra.local.monitoring import WEBHOOK, monitoring_programs
from infra.local.servers import Home, url_of
from infra.local.settings import LocalSettings
from infra.local.supervisor import Supervisor
from tests.support.hastened import hasten_files
from tests.support.pipeline import Pipeline


@dataclass(frozen=True)
class Monitoring:
    """Running servers, and what a test asks of them."""

    home: Home
    prometheus: ClientSession

    @property
    def targets(self) -> Path:
        """The folder of the address files; Prometheus follows its changes."""
        return self.home.folder("prometheus-config") / "targets"

    async def values(self, promql: str) -> list[float]:
        """Return the value of each series that an expression gives now, NaN left out."""
        async with self.prometheus.post("/api/v1/query", data={"query": promql}) as response:
            answer = await response.json()
        assert answer["status"] == "success", answer
        result = answer["data"]["result"]
        samples = (
            [result]
            if answer["data"]["resultType"] == "scalar"
            else [series["value"] for series in result]
        )
        return [value for _, text in samples if not math.isnan(value := float(text))]

    def alerts(self, name: str, status: str) -> list[dict[str, Any]]:
        """Return the notifications of an alert that have reached the receiver."""
        log = self.home.log_path(WEBHOOK)
        lines = [json.loads(line) for line in log.read_text().splitlines() if line[:1] == "{"]
        return [each for each in lines if (each.get("alert"), each.get("status")) == (name, status)]


@asynccontextmanager
async def open_monitoring(
    pipeline: Pipeline, folder: Path, *, faster: float
) -> AsyncIterator[Monitoring]:
    """Run the servers, without data of earlier times, for the length of an ``async with`` block."""
    home = Home(LocalSettings(folder=folder), pipeline.home.ports)
    address = url_of(home.ports.prometheus_port)
    async with Supervisor(on_event=pipeline.events.append) as supervisor:
        programs = monitoring_programs(home)
        for each in ("prometheus-config", "alertmanager-config"):
            hasten_files(home.folder(each), faster)
        for program in programs:
            await supervisor.start(program)
        async with ClientSession(address) as prometheus:
            yield Monitoring(home, prometheus)
