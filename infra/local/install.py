"""Installs the servers that this machine lacks: ``python -m infra.local.install``."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.local import locate
from infra.local.build_minio import build_minio
from infra.local.errors import LocalError, ServerMissingError
from infra.local.progress import Say, run_and_tell
from infra.local.settings import build_environment, cache_folder

APT_INSTALL = Path(__file__).with_name("apt_install.sh")


@dataclass(frozen=True)
class Server:
    """A server that the pipeline needs."""

    name: str
    locate: Callable[[], Path | None]
    """Says where it is, if it is installed."""
    command: str
    """What a person types, in the project's folder, to install it."""
    packages: tuple[str, ...] = ()
    """Debian packages that bring it."""


def _apt_command(*packages: str) -> str:
    return f"sudo infra/local/{APT_INSTALL.name} {' '.join(packages)}"


SERVERS = (
    Server(
        "RabbitMQ",
        locate.locate_rabbitmq,
        _apt_command("rabbitmq-server"),
        packages=("rabbitmq-server",),
    ),
    Server("MinIO", locate.locate_minio, "poetry run python -m infra.local.install"),
    Server("MongoDB", locate.locate_mongo, "poetry install"),
    Server(
        "Prometheus", locate.locate_prometheus, _apt_command("prometheus"), packages=("prometheus",)
    ),
    Server(
        "Alertmanager",
        locate.locate_alertmanager,
        _apt_command("prometheus-alertmanager"),
        packages=("prometheus-alertmanager",),
    ),
)


def install_missing(say: Say, servers: Sequence[Server] = SERVERS) -> None:
    """Install what is not there; what is stays as it is.

    Args:
        say: Told what happens, one line at a time.
        servers: Those that are needed.

    Raises:
        ServerMissingError: One can't be installed from here; the message has the command for it.
        ProgramError: An installation failed; carries the end of its output.
    """
    missing = [server for server in servers if server.locate() is None]
    packages = [package for server in missing for package in server.packages]
    if packages:
        _install_packages(packages, say)
    for server in missing:
        if server.name == "MinIO":
            build_minio(say)
        if server.locate() is None:
            raise ServerMissingError(server.name, server.command)


def _install_packages(packages: Sequence[str], say: Say) -> None:
    names = " ".join(packages)
    say(f"installing from Debian: {names} (their services are not started)")
    run_and_tell(
        [*_as_root(names, _apt_command(*packages)), str(APT_INSTALL), *packages],
        what=f"installing {names}",
        say=say,
        log_path=cache_folder() / "apt-install.log",
        env=build_environment({}),
    )


def _as_root(what: str, command: str) -> list[str]:
    """Return the words to put before a command so that it runs as root."""
    if shutil.which("apt-get") is None:
        raise ServerMissingError(what, f"the package manager of this system ({what})", "no apt-get")
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo is None:
        raise ServerMissingError(what, command, "neither root nor sudo")
    if sys.stdin.isatty():
        return [sudo]
    allowed = subprocess.run([sudo, "-n", "true"], capture_output=True, check=False)
    if allowed.returncode:
        raise ServerMissingError(what, command, "sudo wants a password, and there is no terminal")
    return [sudo, "-n"]


def main() -> int:
    """Install what is missing; return the exit status."""
    try:
        install_missing(_say)
    except LocalError as error:
        _say(str(error))
        return 1
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
