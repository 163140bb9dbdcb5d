"""The networks of the compose files: who reaches whom, and where the way out is."""

import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from tests.support.compose import ROOT, Route, compose, parse_routes, parsed

BASE = "docker-compose.yml"
EGRESS = "00-egress"
COMBINATIONS = [
    (BASE,),
    *(
        (BASE, f"infra/docker/{each.name}")
        for each in sorted((ROOT / "infra/docker").glob("*.yml"))
    ),
]
"""The compose file alone, and with each override file."""
CONFIG = parsed()
SERVICES: dict[str, dict[str, Any]] = CONFIG["services"]


def masquerading(config: dict[str, Any]) -> set[str]:
    """Return the keys of the networks whose traffic the engine translates to the host's address."""
    no_way_out = {"com.docker.network.bridge.enable_ip_masquerade": "false"}
    return {
        name
        for name, each in config["networks"].items()
        if each.get("driver_opts") != no_way_out and not each.get("internal")
    }


@pytest.mark.parametrize("files", COMBINATIONS, ids=lambda files: Path(files[-1]).stem)
def test_way_out_is_first_by_name_of_all_networks(files: tuple[str, ...]) -> None:
    """Of networks of one priority the engine takes the default route from the first by name."""
    config = parsed(files=files)
    names = {key: each["name"] for key, each in config["networks"].items()}
    for service, each in config["services"].items():
        on = set(each.get("networks") or {})
        for key in on & masquerading(config):
            first = min(on, key=lambda other: names[other])
            assert first == key, f"{service}: its default route goes through {first}, not {key}"


def test_only_who_fetches_urls_reaches_out() -> None:
    open_networks = masquerading(CONFIG)
    reaching = {
        name
        for name, each in SERVICES.items()
        if open_networks & set(each.get("networks") or []) or each.get("network_mode") == "host"
    }

    assert open_networks == {EGRESS}
    assert reaching == {"fetcher", "ocr-api", "ocr-api-trocr", "samples"}
    assert SERVICES["samples"]["profiles"] == ["dev"]


def test_label_studio_file_lets_the_review_page_reach_it() -> None:
    files = ("-f", "docker-compose.yml", "-f", "infra/docker/label-studio.yml")
    given = {f"LABEL_STUDIO_{name}": f"{name} given" for name in ("URL", "TOKEN", "WEBHOOK_SECRET")}
    services = json.loads(compose(*files, "config", "--format", "json", env=given))["services"]

    assert given.items() <= services["review"]["environment"].items()
    assert set(services["review"]["networks"]) == {"data", "front", EGRESS}


def test_ocr_api_reaches_minio_alone_and_monitoring_no_data() -> None:
    networks = {name: set(each.get("networks") or {}) for name, each in SERVICES.items()}
    servers = ("minio", "rabbitmq", "mongo")

    assert networks["rabbitmq"] == networks["mongo"] == {"data"}
    assert networks["minio"] == {"collected", "data"}
    collecting = {name for name, on in networks.items() if "collected" in on}
    assert collecting == {"minio", "ocr-api", "ocr-api-trocr"}
    users = {"fetcher", "consumer", "reconciler", "segmenter", "review"}
    others = {*servers, "provisioner", "prometheus"}
    assert {name for name, on in networks.items() if "data" in on} == others | users


def test_routes_are_read_as_the_kernel_writes_them() -> None:
    header = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    lines = (
        "eth1\t00000000\t0150D50A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth1\t0050D50A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    assert parse_routes(header + lines) == [
        Route(IPv4Network("0.0.0.0/0"), IPv4Address("10.213.80.1")),
        Route(IPv4Network("10.213.80.0/24"), IPv4Address("0.0.0.0")),
    ]
