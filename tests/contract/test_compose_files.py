"""The compose file, as compose itself reads it, keeps the rules of docs/deployment.md."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import OcrSettings
from infra.local.servers import notification_environment
from services.common.runtime.access import to_names
from services.common.runtime.settings import LOCAL_PASSWORDS
from services.fetcher.settings import FetcherSettings
from services.provisioner.settings import UsersSettings
from tests.support.compose import ROOT, parsed

CONFIG = parsed()
SERVICES: dict[str, dict[str, Any]] = CONFIG["services"]
ONE_SHOTS = {"preflight", "provisioner"}
LASTING = sorted(SERVICES.keys() - ONE_SHOTS)
CONTRACT_PORTS = {
    ("gateway", "8080", 8080),
    ("gateway", "8081", 8081),
    ("review", "8082", 8082),
    ("grafana", "3000", 3000),
    ("grafana", "9004", 3000),
    ("prometheus", "9000", 9090),
    ("minio", "9002", 9000),
    ("minio", "9003", 9001),
    ("mongo", "27017", 27017),
    ("rabbitmq", "5672", 5672),
    ("rabbitmq", "15672", 15672),
}
EVERY = pytest.mark.parametrize("name", sorted(SERVICES))
EVERY_LASTING = pytest.mark.parametrize("name", LASTING)


def published() -> list[tuple[str, dict[str, Any]]]:
    return [(name, port) for name, each in SERVICES.items() for port in each.get("ports", [])]


def test_ports_are_those_of_the_contract() -> None:
    found = {(name, port["published"], port["target"]) for name, port in published()}

    assert found >= CONTRACT_PORTS


def test_ports_are_open_to_this_machine_alone() -> None:
    assert {port["host_ip"] for _, port in published()} == {"127.0.0.1"}


def test_every_published_port_can_be_changed() -> None:
    raw = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    for each in raw["services"].values():
        for port in each.get("ports", []):
            assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+_PORT:-\d+\}:\d+", port)


@EVERY
def test_container_has_few_rights(name: str) -> None:
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    unlabelled = ["label=disable"] if name == "cadvisor" else []  # it reads the host's files
    assert service["security_opt"] == ["no-new-privileges:true", *unlabelled]
    assert service["read_only"] is True
    assert not service.get("privileged")
    allowed = {"CHOWN", "DAC_OVERRIDE", "SETGID", "SETUID"} if name == "mongo" else set()
    assert set(service.get("cap_add", [])) == allowed
    assert not {"pid", "ipc", "userns_mode"} & service.keys()


@EVERY
def test_container_cannot_take_the_machine(name: str) -> None:
    service = SERVICES[name]

    assert int(service["mem_limit"]) <= 4 * 1024**3
    assert 0 < service["cpus"] <= 2
    most = 1000 if name == "mongo" else 300  # it has a thread for each connection
    assert 0 < service["pids_limit"] <= most
    assert service["logging"]["driver"] == "json-file"
    assert service["logging"]["options"] == {"max-file": "3", "max-size": "10m"}


@EVERY
def test_only_cadvisor_is_given_the_machine_and_only_to_read(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        if volume["type"] == "bind":
            assert volume["read_only"]
            inside = Path(volume["source"]).is_relative_to(ROOT)
            assert inside or name == "cadvisor"


def test_commands_of_our_image_run_what_it_holds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    held = {package["include"] for package in project["tool"]["poetry"]["packages"]}
    for name, service in SERVICES.items():
        if re.match(r"docreco(-trocr)?:", service["image"]):
            package, _, _ = str(service["command"][2]).rpartition(".")
            mounted = [volume["target"] for volume in service.get("volumes", [])]
            assert package.split(".")[0] in held or (
                f"/srv/docreco/{package.replace('.', '/')}" in mounted
            ), name


@EVERY_LASTING
def test_service_has_a_health_check_and_comes_back(name: str) -> None:
    service = SERVICES[name]

    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"


def test_proxy_of_the_docker_client_is_not_asked_for_neighbours() -> None:
    """It is put into every container that does not name it itself."""
    fetching = {name for name in LASTING if "wget" in SERVICES[name]["healthcheck"]["test"]}
    assert "grafana" in fetching  # it asks Prometheus by the same rule
    for name in fetching:
        for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            assert SERVICES[name]["environment"][proxy] == "", name


@pytest.mark.parametrize("name", sorted(ONE_SHOTS))
def test_one_shot_ends_and_another_waits_for_its_success(name: str) -> None:
    assert SERVICES[name]["restart"] == "no"
    waiting = [each["depends_on"].get(name) for each in SERVICES.values() if "depends_on" in each]
    assert {each["condition"] for each in waiting if each} == {"service_completed_successfully"}


def test_nothing_starts_before_preflight() -> None:
    def waits(name: str) -> bool:
        needed = SERVICES[name].get("depends_on", {})
        return "preflight" in needed or any(waits(each) for each in needed)

    assert {name for name in SERVICES if not waits(name)} == {"preflight"}


def test_each_image_is_built_by_one_service() -> None:
    """Compose labels it with its service: of several, each `up` would recreate all."""
    building = [each["image"] for each in SERVICES.values() if "build" in each]

    assert len(building) == len(set(building))
    assert SERVICES["preflight"]["image"] in building  # and everything waits for it


def test_state_of_every_server_is_on_a_volume() -> None:
    states = {
        "minio": "/data",
        "rabbitmq": "/var/lib/rabbitmq",
        "mongo": "/data/db",
        "prometheus": "/prometheus",
        "alertmanager": "/alertmanager",
        "grafana": "/var/lib/grafana",
        "preflight": "/keys",
    }
    for name, target in states.items():
        volumes = {each["target"]: each["type"] for each in SERVICES[name]["volumes"]}
        assert volumes[target] == "volume"
    assert len(CONFIG["volumes"]) == 9  # and the files that the fetcher works with


@EVERY
def test_image_is_pinned(name: str) -> None:
    service = SERVICES[name]
    image, _, tag = service["image"].rpartition(":")

    assert image
    assert image.startswith("docreco") or re.search(r"\d+\.\d+\.\d+", tag)
    assert tag != "latest"


def test_local_passwords_are_those_that_production_refuses() -> None:
    secret = re.compile(r"PASSWORD|SECRET_ACCESS_KEY|_PASS$")
    found = {
        value
        for each in SERVICES.values()
        for name, value in (each.get("environment") or {}).items()
        if secret.search(name) and value
    }

    assert found
    assert found <= LOCAL_PASSWORDS


def test_services_are_no_administrators() -> None:
    for name in ("fetcher", "consumer", "reconciler", "review", "segmenter"):
        environment = SERVICES[name]["environment"]
        assert environment["S3_ACCESS_KEY_ID"] == name
        assert environment["AMQP_URL"].startswith(f"amqp://{name}:")
    ocr_api = SERVICES["ocr-api"]["environment"]
    assert ocr_api["S3_ACCESS_KEY_ID"] == "ocr-api"
    assert not {"AMQP_URL", "MONGO_URL"} & ocr_api.keys()
    assert "amqp://minio:" in SERVICES["minio"]["environment"]["MINIO_NOTIFY_AMQP_URL_RAW"]


@pytest.mark.parametrize(("chosen", "collects"), [({}, "1"), ({"OCR_COLLECT": "0"}, "0")])
def test_images_of_requests_are_kept_unless_a_person_says_no(
    chosen: dict[str, str], collects: str
) -> None:
    services = parsed(chosen)["services"]

    assert services["ocr-api"]["environment"]["OCR_COLLECT"] == collects
    # in production it must be set explicitly
    assert services["preflight"]["environment"]["OCR_COLLECT"] == chosen.get("OCR_COLLECT")


def test_one_shot_containers_get_every_user_of_the_services() -> None:
    made = {f"USERS_{name.upper()}" for name in UsersSettings.model_fields}

    for name in ONE_SHOTS:
        given = {each for each in SERVICES[name]["environment"] if each.startswith("USERS_")}
        assert given == made


def test_minio_notifies_as_it_does_without_docker() -> None:
    environment = SERVICES["minio"]["environment"]
    url = environment["MINIO_NOTIFY_AMQP_URL_RAW"]
    expected = notification_environment(url, queue_dir="/data/events")

    assert {name: environment[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("port", "names"),
    [
        ("8080", to_names(OcrSettings().hosts)),
        ("8081", to_names(FetcherSettings().hosts)),
    ],
    ids=["ocr-api", "fetcher"],
)
def test_services_call_each_other_by_names_that_are_accepted(
    port: str, names: frozenset[str]
) -> None:
    files = [ROOT / "docker-compose.yml", *ROOT.glob("infra/k8s/**/*.yaml")]
    called = {
        name
        for path in files
        for name in re.findall(rf"http://([a-z-]+):{port}\b", path.read_text())
    }

    assert called
    assert called <= names
