"""The lock file installs one version of a package: two would overwrite each other's files."""

import tomllib
from collections import defaultdict
from itertools import product
from pathlib import Path

import pytest
from packaging.markers import Marker

LOCK = Path(__file__).parents[2] / "poetry.lock"
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")


@pytest.mark.parametrize(("python", "machine"), list(product(PYTHONS, MACHINES)))
def test_each_package_has_one_version_on_linux(python: str, machine: str) -> None:
    environment = {
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": machine,
        "os_name": "posix",
        "python_version": python,
        "python_full_version": f"{python}.9",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "trocr",
    }
    versions: defaultdict[str, list[str]] = defaultdict(list)
    for package in tomllib.loads(LOCK.read_text(encoding="utf-8"))["package"]:
        markers = package.get("markers")
        # one for each group, where they differ
        for marker in set(markers.values()) if isinstance(markers, dict) else {markers}:
            if marker is None or Marker(marker).evaluate(environment):
                versions[package["name"]].append(package["version"])

    assert {name: found for name, found in versions.items() if len(set(found)) > 1} == {}
