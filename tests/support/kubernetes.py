"""The Kubernetes manifests, built by kustomize."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.compose import ROOT

KUBERNETES_FOLDER = ROOT / "infra" / "k8s"
OVERLAYS = ("local", "production")


@cache
def built(overlay: str) -> list[dict[str, Any]]:
    """Return the manifests of an overlay."""
    return build(KUBERNETES_FOLDER / "overlays" / overlay)


def build(folder: Path) -> list[dict[str, Any]]:
    """Return the manifests of a folder of kustomize."""
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run(  # noqa: S603
        [kubectl, "kustomize", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, *kinds: str) -> dict[str, dict[str, Any]]:
    """Return the manifests of some kinds, by name."""
    return {each["metadata"]["name"]: each for each in built(overlay) if each["kind"] in kinds}


def workloads(overlay: str) -> dict[str, dict[str, Any]]:
    """Return the templates of all pods, by the name of what makes them."""
    found = of_kind(overlay, "Deployment", "StatefulSet", "Job")
    return {name: each["spec"]["template"] for name, each in found.items()}
