"""Real servers for tests: given addresses, otherwise Docker, otherwise child processes."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import ClientSession, encode_basic_auth
from pydantic import AmqpDsn, HttpUrl, SecretStr

from infra.local.ports import pick_free_ports
from infra.local.servers import Home, url_of
from infra.local.settings import LocalSettings
from infra.local.stack import Addresses, open_servers
from infra.local.supervisor import Supervisor
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from tests.support import containers
from tests.support.notifying import target_at_once

START_TIMEOUT_SECONDS = 240.0
STOP_TIMEOUT_SECONDS = 120.0


@contextmanager
def real_servers() -> Iterator[Addresses]:
    """Yield RabbitMQ, MinIO and MongoDB that the tests may fill with garbage.

    An unavailable server is an error, never a skip.
    """
    if given := _given_addresses():
        yield given
        return
    image = os.environ.get("TEST_MINIO_IMAGE")
    if image and containers.engine_answers():
        with containers.containers(minio_image=image) as addresses:
            yield addresses
        return
    with TemporaryDirectory(prefix="docreco-tests-") as folder, _child_processes(folder) as own:
        yield own


def s3_settings_of(servers: Addresses) -> S3Settings:
    """Return MinIO's address, and unique names of buckets."""
    name = f"test-{uuid4().hex}"
    return S3Settings(
        endpoint_url=HttpUrl(servers.s3_endpoint_url),
        access_key_id=servers.s3_access_key_id,
        secret_access_key=servers.s3_secret_access_key,
        bucket=name,
        pages_bucket=f"{name}-pages",
        submitted_bucket=f"{name}-submitted",
        connect_timeout_seconds=60.0,
    )


def s3_settings_at(home: Home, **changes: Any) -> S3Settings:
    """Return the address of a MinIO that the test starts itself."""
    return S3Settings(
        endpoint_url=HttpUrl(url_of(home.ports.minio_port)),
        access_key_id=home.settings.minio_user,
        secret_access_key=home.settings.minio_password,
        **changes,
    )


def set_environment(
    monkeypatch: pytest.MonkeyPatch, *settings: S3Settings | MongoSettings | AmqpSettings
) -> None:
    """Let commands find these servers."""
    for name, value in environment_of(*settings).items():
        monkeypatch.setenv(name, value)


def environment_of(*settings: S3Settings | MongoSettings | AmqpSettings) -> dict[str, str]:
    """Return the environment in which a process finds these servers."""
    found = {"COLUMNS": "200"}
    for each in settings:
        if isinstance(each, S3Settings):
            found["S3_ENDPOINT_URL"] = str(each.endpoint_url)
            found["S3_ACCESS_KEY_ID"] = each.access_key_id
            found["S3_SECRET_ACCESS_KEY"] = each.secret_access_key.get_secret_value()
            found["S3_BUCKET"] = each.bucket
            found["S3_PAGES_BUCKET"] = each.pages_bucket
        elif isinstance(each, MongoSettings):
            found |= {"MONGO_URL": str(each.url), "MONGO_DATABASE": each.database}
        else:
            found["AMQP_URL"] = str(each.url)
    return found


@asynccontextmanager
async def open_virtual_host(servers: Addresses) -> AsyncIterator[AmqpSettings]:
    """Give an exclusive virtual host of RabbitMQ, and delete it afterwards."""
    name = f"test-{uuid4().hex}"
    user = servers.rabbitmq_management_user
    password = servers.rabbitmq_management_password.get_secret_value()
    headers = {"Authorization": encode_basic_auth(user, password)}
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    async with ClientSession(
        f"{servers.rabbitmq_management_url}/api/", headers=headers, raise_for_status=True
    ) as management:
        await management.put(f"vhosts/{name}")
        await management.put(f"permissions/{name}/{user}", json=everything)
        url = servers.amqp_url.get_secret_value().rstrip("/")
        yield AmqpSettings(url=AmqpDsn(f"{url}/{name}"))
        await management.delete(f"vhosts/{name}")


def _given_addresses() -> Addresses | None:
    names = {
        field: f"TEST_{name}"
        for field, name in (
            ("s3_endpoint_url", "S3_ENDPOINT_URL"),
            ("s3_access_key_id", "S3_ACCESS_KEY_ID"),
            ("s3_secret_access_key", "S3_SECRET_ACCESS_KEY"),
            ("amqp_url", "AMQP_URL"),
            ("rabbitmq_management_url", "RABBITMQ_MANAGEMENT_URL"),
            ("rabbitmq_management_user", "RABBITMQ_MANAGEMENT_USER"),
            ("rabbitmq_management_password", "RABBITMQ_MANAGEMENT_PASSWORD"),
            ("mongo_url", "MONGO_URL"),
        )
    }
    given = {field: os.environ[name] for field, name in names.items() if name in os.environ}
    if not given:
        return None
    if missing := [name for field, name in names.items() if field not in given]:
        raise RuntimeError(f"some servers are given, so these must be too: {', '.join(missing)}")
    return Addresses(
        s3_endpoint_url=given["s3_endpoint_url"],
        s3_access_key_id=given["s3_access_key_id"],
        s3_secret_access_key=SecretStr(given["s3_secret_access_key"]),
        amqp_url=SecretStr(given["amqp_url"]),
        rabbitmq_management_url=given["rabbitmq_management_url"],
        rabbitmq_management_user=given["rabbitmq_management_user"],
        rabbitmq_management_password=SecretStr(given["rabbitmq_management_password"]),
        mongo_url=SecretStr(given["mongo_url"]),
    )


@contextmanager
def _child_processes(folder: str) -> Iterator[Addresses]:
    """Run the servers on an event loop of their own: each test has another one."""
    ready: Future[Addresses] = Future()
    stop: Future[None] = Future()

    def run() -> None:
        try:
            asyncio.run(_serve(Path(folder), ready, stop))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    thread = threading.Thread(target=run, name="servers", daemon=True)
    thread.start()
    try:
        yield ready.result(START_TIMEOUT_SECONDS)
    finally:
        stop.set_result(None)
        thread.join(STOP_TIMEOUT_SECONDS)


async def _serve(folder: Path, ready: Future[Addresses], stop: Future[None]) -> None:
    ports = pick_free_ports()
    home = Home(LocalSettings(), ports)
    async with (
        Supervisor(on_event=lambda line: print(line, file=sys.stderr)) as supervisor,  # noqa: T201
        open_servers(
            folder, ports, supervisor=supervisor, minio_environment=target_at_once(home.amqp_url)
        ) as addresses,
    ):
        ready.set_result(addresses)
        await asyncio.wrap_future(stop)
