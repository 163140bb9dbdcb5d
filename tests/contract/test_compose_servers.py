"""Servers in the compose file: versions, users, threads, open files, configuration."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.compose import ROOT, parsed

SERVICES: dict[str, dict[str, Any]] = parsed()["services"]
LEAST_VERSIONS = {
    "mongo": (8, 0, 17),  # CVE-2025-14847
    "rabbitmq": (4, 3, 1),  # 4.3.0 declares no queue passively without the right to configure it
    "cadvisor": (0, 57, 0),  # containers of engine 29, and their restarts
}
CLONE = [
    (name, volume)
    for name, service in SERVICES.items()
    for volume in service.get("volumes", [])
    if volume["type"] == "bind" and Path(volume["source"]).is_relative_to(ROOT)
]


@pytest.mark.parametrize("name", LEAST_VERSIONS)
def test_server_has_no_known_fault_of_its_predecessors(name: str) -> None:
    found = re.search(r":v?(\d+)\.(\d+)\.(\d+)", SERVICES[name]["image"])

    assert found
    assert tuple(int(each) for each in found.groups()) >= LEAST_VERSIONS[name]


def test_example_settings_name_the_images_of_compose() -> None:
    pattern = r"([A-Z]+_IMAGE)(?::-|=)([^\s}]+)"
    used = set(re.findall(pattern, (ROOT / "docker-compose.yml").read_text()))
    shown = set(re.findall(pattern, (ROOT / ".env.example").read_text()))

    assert used == shown


def test_images_are_built_from_what_compose_names() -> None:
    compose = dict(
        re.findall(r"(\w+_IMAGE): \$\{\w+:-([^}]+)\}", (ROOT / "docker-compose.yml").read_text())
    )
    for path in ROOT.glob("infra/**/Dockerfile"):
        for name, image in re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", path.read_text(), re.MULTILINE):
            assert compose[name] == image, path


@pytest.mark.parametrize(
    "setting", ["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "RABBITMQ_CTL_ERL_ARGS"]
)
def test_erlang_makes_threads_for_its_share_of_the_processors(setting: str) -> None:
    """By default it makes two for each processor of the host, of which there may be many."""
    rabbitmq = SERVICES["rabbitmq"]
    schedulers = re.findall(r"\+(S|SDcpu) (\d+):(\d+)", rabbitmq["environment"][setting])

    assert {name for name, _, _ in schedulers} == {"S", "SDcpu"}
    assert all(int(most) <= rabbitmq["cpus"] for _, most, _ in schedulers)


def test_cadvisor_reaches_both_engines_that_know_containers() -> None:
    mounted = {each["source"]: each["target"] for each in SERVICES["cadvisor"]["volumes"]}

    # The folder: as a mount of the socket, a socket that is missing becomes a folder of the host
    assert {"/var/run/docker.sock", "/run/containerd"} <= mounted.keys()
    assert all(target == source for source, target in mounted.items() if source != "/")
    assert "label=disable" in SERVICES["cadvisor"]["security_opt"]


@pytest.mark.parametrize(("name", "volume"), CLONE)
def test_selinux_lets_a_container_read_what_is_mounted(name: str, volume: dict[str, Any]) -> None:
    assert volume["bind"]["selinux"] == "z", f"{name}: {volume['target']}"
    assert Path(volume["source"]).exists(), "docker would make it, as root's"


def test_preflight_reads_all_configuration_of_servers() -> None:
    sources = {name: set[Path]() for name, _ in CLONE}
    for name, volume in CLONE:
        sources[name].add(Path(volume["source"]))
    checked = sources.pop("preflight")
    # weights and code for our own image
    for name in ("ocr-api", "ocr-api-trocr", "ocr-api-shadow", "review", "samples"):
        del sources[name]
    for name, paths in sources.items():
        for path in paths:
            assert any(path.is_relative_to(each) for each in checked), f"{name}: {path}"
    targets = [volume["target"] for name, volume in CLONE if name == "preflight"]
    folder = SERVICES["preflight"]["environment"]["PREFLIGHT_CONFIGURATION"]
    assert all(Path(target).is_relative_to(folder) for target in targets)
