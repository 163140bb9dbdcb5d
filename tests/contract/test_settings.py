"""Every setting that is documented reaches its service, in compose and in Kubernetes."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from infra.service_settings import OF_THE_DEPLOYMENT, SERVICES, variables, variables_of
from infra.settings_table import GROUPS, fresh_files
from services.common.runtime.settings import DeploymentSettings, LogSettings
from tests.support.compose import ROOT, parsed
from tests.support.kubernetes import OVERLAYS, workloads

PACKAGES = {
    "ocr-api": "app",
    "fetcher": "services/fetcher",
    "consumer": "services/consumer",
    "reconciler": "services/reconciler",
    "review": "services/review",
}
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
OF_ALL = {DeploymentSettings.__name__, LogSettings.__name__}
EACH = pytest.mark.parametrize("service", sorted(SERVICES))


def environment(service: str, env: dict[str, str]) -> dict[str, str]:
    """Return the settings passed to a service, of those set by a user."""
    own: dict[str, str] = parsed(env)["services"][service]["environment"]
    return own


@EACH
def test_setting_of_env_reaches_its_service(service: str) -> None:
    given = {name: f"given {name}" for name in (*variables_of(service), "LOG_LEVEL", "LOG_FORMAT")}

    assert given.items() <= environment(service, given).items()


@EACH
def test_unset_setting_is_left_to_the_service(service: str) -> None:
    """Compose passes a name without a value on as nothing, not as an empty string."""
    own = environment(service, {})
    without_default = {name for name in variables_of(service) if not own[name]}

    assert {own[name] for name in without_default} <= {None, ""}
    assert {name for name in without_default if own[name] == ""} <= {"MONGO_ROOT_PASSWORD"}


def test_settings_are_read_from_the_env_file_too(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("OCR_API_TOKEN=of-the-file\nFETCHER_MAX_SPOOL_BYTES=1\n")
    services = parsed(env_file=file)["services"]

    assert services["ocr-api"]["environment"]["OCR_API_TOKEN"] == "of-the-file"
    assert services["consumer"]["environment"]["OCR_API_TOKEN"] == "of-the-file"
    assert services["fetcher"]["environment"]["FETCHER_MAX_SPOOL_BYTES"] == "1"


def test_written_files_are_up_to_date() -> None:
    for path, text in fresh_files().items():
        assert path.read_text() == text, f"{path.name}: run python -m infra.settings_table"


@pytest.mark.parametrize("service", sorted(PACKAGES))
def test_settings_classes_of_a_service_are_known(service: str) -> None:
    known = {group.__name__ for group in SERVICES[service]} | OF_ALL
    used: set[str] = set()
    for path in (ROOT / PACKAGES[service]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("settings"):
                used |= {each.name for each in node.names if each.name.endswith("Settings")}

    assert used - {"BaseSettings"} <= known


def test_documented_settings_reach_a_service_or_deployment() -> None:
    """Programs outside of containers, which are not services: commands and child processes."""
    passed = {name for service in SERVICES for name in variables_of(service)}
    passed |= {name for group in (DeploymentSettings, LogSettings) for name in variables(group)}
    documented = {name for group in GROUPS for name in variables(group)}
    outside = {name for name in documented if name.startswith(("LOCAL_", "DOCRECO_", "USERS_"))}

    assert documented - passed - outside == OF_THE_DEPLOYMENT


def test_example_of_env_names_what_compose_knows() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    interpolated = set(re.findall(r"\$\{([A-Z0-9_]+)", compose))
    passed = {name for service in SERVICES for name in variables_of(service)}
    example = (ROOT / ".env.example").read_text()
    named = set(re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", example, re.MULTILINE))

    assert interpolated <= named
    assert named <= interpolated | passed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_setting_that_a_page_names_is_one(page: Path) -> None:
    prefixes = r"OCR|FETCHER|CONSUMER|RECONCILER|REVIEW|PROVISIONER|PREFLIGHT|LABEL_STUDIO|S3"
    named = set(re.findall(rf"`((?:{prefixes})_[A-Z0-9_]+)(?:=[^`]*)?`", page.read_text()))
    known = {name for groups in SERVICES.values() for group in groups for name in variables(group)}

    assert named - known - _interpolated() == set()


def _interpolated() -> set[str]:
    return set(re.findall(r"\$\{([A-Z0-9_]+)", (ROOT / "docker-compose.yml").read_text()))


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("service", sorted(SERVICES.keys() - {"preflight"}))
def test_kubernetes_passes_settings_and_secrets_to_services(overlay: str, service: str) -> None:
    [container] = workloads(overlay)[service]["spec"]["containers"]
    sources: list[dict[str, Any]] = container["envFrom"]
    settings = [each["configMapRef"]["name"] for each in sources if "configMapRef" in each]
    secrets = {each["secretRef"]["name"] for each in sources if "secretRef" in each}
    named = {each["name"] for each in container["env"]}

    assert [name.rpartition("-")[0] for name in settings] == ["docreco-settings"]
    wanted = {name for group in SERVICES[service] for name in variables(group, secret=True)}
    wanted -= {"CONSUMER_OCR_API_TOKEN"}  # by default the API's own
    if "MONGO_PASSWORD" in wanted:  # it is in the address there, which is a secret as a whole
        wanted = wanted - {"MONGO_PASSWORD"} | {"MONGO_URL"}
    wanted = {name for name in wanted if not name.startswith("USERS_")}
    if "docreco-label-studio" in secrets:
        wanted = {name for name in wanted if not name.startswith("LABEL_STUDIO_")}
    assert wanted <= named
    # What is set in a container's own list cannot be set by the ConfigMap
    assert named & set(variables_of(service)) <= wanted
