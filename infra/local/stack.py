"""RabbitMQ, MinIO and MongoDB as child processes.

``python -m infra.local.stack up`` keeps them running while a developer works.
"""

import argparse
import asyncio
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import SecretStr

from infra.local import locate, servers
from infra.local.errors import LocalError, ServerMissingError
from infra.local.ports import check_ports_free, pick_free_ports
from infra.local.servers import Home, url_of
from infra.local.settings import LocalSettings, Ports
from infra.local.supervisor import Program, Supervisor

BUCKET = "raw"
DATABASE = "docreco"
FIELDS = (
    *("rabbitmq_port", "rabbitmq_management_port", "rabbitmq_metrics_port"),
    *("rabbitmq_distribution_port", "epmd_port", "minio_port", "minio_console_port", "mongo_port"),
)


@dataclass(frozen=True)
class Addresses:
    """Addresses and credentials of running servers."""

    s3_endpoint_url: str
    s3_access_key_id: str
    s3_secret_access_key: SecretStr
    amqp_url: SecretStr
    rabbitmq_management_url: str
    rabbitmq_management_user: str
    rabbitmq_management_password: SecretStr
    mongo_url: SecretStr

    def environment(self, *, bucket: str = BUCKET, database: str = DATABASE) -> dict[str, str]:
        """Return the services' settings for these servers, including secrets."""
        return {
            "S3_ENDPOINT_URL": self.s3_endpoint_url,
            "S3_ACCESS_KEY_ID": self.s3_access_key_id,
            "S3_SECRET_ACCESS_KEY": self.s3_secret_access_key.get_secret_value(),
            "S3_BUCKET": bucket,
            "AMQP_URL": self.amqp_url.get_secret_value(),
            "RABBITMQ_MANAGEMENT_URL": self.rabbitmq_management_url,
            "RABBITMQ_MANAGEMENT_USER": self.rabbitmq_management_user,
            "RABBITMQ_MANAGEMENT_PASSWORD": self.rabbitmq_management_password.get_secret_value(),
            "MONGO_URL": self.mongo_url.get_secret_value(),
            "MONGO_DATABASE": database,
        }


def addresses_of(home: Home) -> Addresses:
    """Return the addresses of a home's servers."""
    settings, ports = home.settings, home.ports
    return Addresses(
        s3_endpoint_url=url_of(ports.minio_port),
        s3_access_key_id=settings.minio_user,
        s3_secret_access_key=settings.minio_password,
        amqp_url=SecretStr(home.amqp_url),
        rabbitmq_management_url=url_of(ports.rabbitmq_management_port),
        rabbitmq_management_user=settings.rabbitmq_user,
        rabbitmq_management_password=settings.rabbitmq_password,
        mongo_url=SecretStr(home.mongo_url),
    )


@asynccontextmanager
async def open_servers(
    folder: Path,
    ports: Ports,
    *,
    supervisor: Supervisor,
    settings: LocalSettings | None = None,
    minio_environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Addresses]:
    """Run RabbitMQ, MinIO and MongoDB during an ``async with`` block.

    Raises:
        PortInUseError: A port is in use.
        ServerMissingError: One of them is not installed.
        NotReadyError: One of them did not start.
    """
    users = settings or LocalSettings()
    home = Home(users.model_copy(update={"folder": folder}), ports)
    chains = _programs(home, minio_environment or {})
    check_ports_free(ports, FIELDS)
    try:
        await _start_together(chains, supervisor)
        yield addresses_of(home)
    finally:
        async with asyncio.TaskGroup() as group:
            for chain in chains:
                group.create_task(_stop(chain, supervisor))


def _programs(home: Home, minio_environment: Mapping[str, str]) -> list[list[Program]]:
    """Return the programs: each list is started in order, in parallel to the others."""
    rabbitmq = located("RabbitMQ", locate.locate_rabbitmq)
    epmd = located("RabbitMQ", locate.locate_epmd)
    minio = located("MinIO", locate.locate_minio)
    mongo = located("MongoDB", locate.locate_mongo)
    store = servers.minio(minio, home)
    return [
        [servers.mongo(mongo, home)],
        [servers.epmd(epmd, home), servers.rabbitmq(rabbitmq, home)],
        [replace(store, env={**store.env, **minio_environment})],
    ]


def located(server: str, find: Callable[[], Path | None]) -> Path:
    """Return the path of a server.

    Raises:
        ServerMissingError: It is not installed.
    """
    if found := find():
        return found
    raise ServerMissingError(server, "poetry run python -m infra.local.install")


async def _start_together(chains: Sequence[Sequence[Program]], supervisor: Supervisor) -> None:
    async def start(chain: Sequence[Program]) -> None:
        for program in chain:
            await supervisor.start(program)

    try:
        async with asyncio.TaskGroup() as group:
            for chain in chains:
                group.create_task(start(chain))
    except* LocalError as group_error:
        raise group_error.exceptions[0] from None


async def _stop(chain: Sequence[Program], supervisor: Supervisor) -> None:
    for program in reversed(chain):
        await supervisor.stop(program.name)


async def _up(folder: Path, ports: Ports, env_file: Path | None) -> None:
    """Run the servers until a signal; a second one kills them."""
    if (task := asyncio.current_task()) is None:
        raise RuntimeError("not in a task")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        async with (
            Supervisor(on_event=_say) as supervisor,
            open_servers(folder, ports, supervisor=supervisor) as addresses,
        ):
            _publish(export_lines(addresses), env_file)
            _say(f"ready; data and logs are in {folder}")
            await supervisor.wait_failed()
    except asyncio.CancelledError:
        _say("stopped")


def _publish(lines: str, env_file: Path | None) -> None:
    if env_file is None:
        sys.stdout.write(lines)
        sys.stdout.flush()
    else:
        env_file.touch(mode=0o600)
        env_file.write_text(lines)


def export_lines(addresses: Addresses) -> str:
    """Return shell exports of these servers for services, and as ``TEST_*`` for tests."""
    return "".join(
        f"export {prefix}{name}={shlex.quote(value)}\n"
        for prefix in ("", "TEST_")
        for name, value in addresses.environment().items()
    )


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main() -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.stack", description=__doc__)
    parser.add_argument("command", choices=["up"], help="start the servers, and stop on Ctrl-C")
    parser.add_argument("--folder", type=Path, default=LocalSettings().folder, help="their data")
    parser.add_argument("--free-ports", action="store_true", help="not the usual ports")
    parser.add_argument("--env-file", type=Path, help="write the environment there")
    arguments = parser.parse_args()
    ports = pick_free_ports() if arguments.free_ports else Ports()
    try:
        asyncio.run(_up(arguments.folder, ports, arguments.env_file))
    except LocalError as error:
        _say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
