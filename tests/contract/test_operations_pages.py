"""The pages about running it name the versions that are pinned, and numbers that are still so."""

import re
from typing import Any

import pytest

from services.common.adapters.collections import IMAGES, INDEXES
from tests.support.compose import ROOT, parsed

SERVICES: dict[str, dict[str, Any]] = parsed()["services"]
PINNED = {
    "MongoDB": "mongo",
    "RabbitMQ": "rabbitmq",
    "Prometheus": "prometheus",
    "Alertmanager": "alertmanager",
    "Grafana": "grafana",
    "cAdvisor": "cadvisor",
}


def version_of(service: str) -> str:
    found = re.search(r":v?(\d+\.\d+\.\d+)", SERVICES[service]["image"])
    assert found
    return found[1]


@pytest.mark.parametrize("page", ["docs/operations.md", "docs/deployment.md"])
@pytest.mark.parametrize("server", PINNED)
def test_page_names_the_pinned_version(page: str, server: str) -> None:
    text = (ROOT / page).read_text()

    assert re.search(rf"{server} (\| )?{re.escape(version_of(PINNED[server]))}\b", text)


def test_images_have_as_many_indexes_as_the_arithmetic_counts() -> None:
    text = (ROOT / "docs/scaling.md").read_text()

    assert f"{len(INDEXES[IMAGES])} indexes and `_id`" in text
