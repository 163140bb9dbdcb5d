"""Install missing servers: ``python -m infra.local.install``."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from infra.local import locate
from infra.local.as_root import apt_command, install_packages
from infra.local.build_minio import build_minio
from infra.local.errors import LocalError, ServerMissingError
from infra.local.progress import Say
from services.cli.output import Cell, Table, cell

TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class Server:
    """A server that the pipeline needs."""

    name: str
    locate: Callable[[], Path | None]
    """Locates it, or raises if it is not installed."""
    command: str
    """Command that installs it, relative to the project's folder."""
    package: str | None = None
    """Its Debian package."""


def _of_debian(name: str, find: Callable[[], Path | None], package: str) -> Server:
    return Server(name, find, apt_command(package), package)


RABBITMQ = _of_debian("RabbitMQ", locate.locate_rabbitmq, "rabbitmq-server")
MINIO = Server("MinIO", locate.locate_minio, "poetry run python -m infra.local.install")
MONGODB = Server("MongoDB", locate.locate_mongo, "poetry install")
PROMETHEUS = _of_debian("Prometheus", locate.locate_prometheus, "prometheus")
ALERTMANAGER = _of_debian("Alertmanager", locate.locate_alertmanager, "prometheus-alertmanager")
SERVERS = (RABBITMQ, MINIO, MONGODB, PROMETHEUS, ALERTMANAGER)


def install_missing(say: Say, servers: Sequence[Server] = SERVERS) -> None:
    """Install missing servers; existing ones are not changed.

    Raises:
        ServerMissingError: One can't be installed from here; the message has the command.
        ProgramError: An installation failed; with the end of its output.
    """
    missing = [server for server in servers if server.locate() is None]
    if packages := [server.package for server in missing if server.package]:
        install_packages(packages, say)
    if MINIO in missing:
        build_minio(say)
    for server in missing:
        if server.locate() is None:
            raise ServerMissingError(server.name, server.command)


def main() -> int:
    """Install missing servers; return the exit status."""
    try:
        install_missing(_say)
    except LocalError as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def check_programs(servers: Sequence[Server] = SERVERS) -> int:
    """Show the path of each program, or the command to install it; return the exit status."""
    paths = [server.locate() for server in servers]
    rows = []
    for server, path in zip(servers, paths, strict=True):
        state = cell("missing", "red") if path is None else cell("ok", "green")
        rows.append([cell(server.name), state, cell(path or server.command)])
    rows.append([cell("Docker (optional)"), *_docker()])
    Console(highlight=False).print(
        Table("Programs", ("name", "state", "path, or how to install it"), rows)
    )
    return 1 if None in paths else 0


def _docker() -> list[Cell]:
    """Check Docker and its engine."""
    path = shutil.which("docker")
    if path is None:
        return [cell("missing", "yellow"), cell("")]
    try:
        subprocess.run([path, "version"], capture_output=True, check=True, timeout=TIMEOUT_SECONDS)
    except (subprocess.SubprocessError, OSError):
        return [cell("the engine does not answer", "yellow"), cell(path)]
    return [cell("ok", "green"), cell(path)]


if __name__ == "__main__":
    sys.exit(main())
