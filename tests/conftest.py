"""Fixtures of all tests: real servers, and settings that share nothing between two tests."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
import structlog
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pydantic import AmqpDsn, HttpUrl, MongoDsn
from pymongo import MongoClient

from infra.local.stack import Addresses
from services.common.adapters.mongo import Database, open_database
from services.common.adapters.object_store import ObjectStore, open_object_store
from services.common.runtime.settings import (
    AmqpSettings,
    MongoSettings,
    RabbitmqManagementSettings,
    S3Settings,
)
from tests.support.notifying import fastest_arn
from tests.support.servers import open_virtual_host, real_servers, s3_settings_of

# Whatever the speed of the machine
any_speed = hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.register_profile("any speed", any_speed)
hypothesis_settings.load_profile("any speed")
hypothesis_settings.register_profile("thorough", max_examples=4000)  # --hypothesis-profile=thorough
hypothesis_settings.register_profile("fast", max_examples=10)  # ./run_tests.sh --fast


TESTS = Path(__file__).parent
SLOW_FIRST = ("chaos", "e2e")
"""Folders whose files take minutes: begun last, one would keep a single worker busy."""
MARKED = ("integration", "e2e")
"""Folders whose tests have the marker of that name."""


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).parts[0]


def pytest_itemcollected(item: pytest.Item) -> None:
    if _folder(item) in MARKED:
        item.add_marker(_folder(item))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _folder(item) not in SLOW_FIRST)  # stable: else random


@pytest.fixture(autouse=True)
def patient_services(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be given up, or shown without its answer, because the machine is slow."""
    for limit in (
        "cli.doctor.TIMEOUT_SECONDS",
        "common.runtime.health.CHECK_TIMEOUT_SECONDS",
        "review.overview.TIMEOUT_SECONDS",
        "review.refreshed_answer.FIRST_SECONDS",
        "review.search_limits.FIRST_SECONDS",
        "review.search_limits.SEARCH_SECONDS",
    ):
        monkeypatch.setattr(f"services.{limit}", 60.0)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Take away what a service's start sets up: its handler writes to this test's own stream."""
    yield
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(handler)
    root.setLevel(logging.WARNING)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def servers() -> Iterator[Addresses]:
    """Real RabbitMQ, MinIO and MongoDB, one set for all tests."""
    with real_servers() as addresses:
        yield addresses


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def s3_admin(servers: Addresses) -> AsyncIterator[ObjectStore]:
    """A client whose ``delete_bucket`` takes all that is in the bucket with it, as MinIO can."""

    def with_all(params: dict[str, Any], **_: object) -> None:
        params["headers"]["x-minio-force-delete"] = "true"

    async with open_object_store(s3_settings_of(servers)) as store:
        store.client.meta.events.register("before-call.s3.DeleteBucket", with_all)
        yield store


@pytest_asyncio.fixture(loop_scope="session")
async def s3_settings(servers: Addresses, s3_admin: ObjectStore) -> AsyncIterator[S3Settings]:
    """MinIO, and the names of buckets that are removed afterwards where the test made them."""
    settings = s3_settings_of(servers)
    yield settings
    for bucket in (settings.bucket, settings.pages_bucket, settings.submitted_bucket):
        with suppress(s3_admin.client.exceptions.NoSuchBucket):
            await s3_admin.client.delete_bucket(Bucket=bucket)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def notification_arn(s3_admin: ObjectStore) -> str:
    """Name of the target by which MinIO tells events soonest."""
    await s3_admin.client.create_bucket(Bucket=s3_admin.bucket)
    try:
        return await fastest_arn(s3_admin)
    finally:
        await s3_admin.client.delete_bucket(Bucket=s3_admin.bucket)


@pytest.fixture
def amqp_settings(servers: Addresses) -> AmqpSettings:
    """RabbitMQ's usual virtual host, where MinIO's events arrive; all tests share it."""
    return AmqpSettings(url=AmqpDsn(servers.amqp_url.get_secret_value()))


@pytest.fixture
def management(servers: Addresses) -> RabbitmqManagementSettings:
    """RabbitMQ's management API, as its administrator."""
    return RabbitmqManagementSettings(
        url=HttpUrl(servers.rabbitmq_management_url),
        user=servers.rabbitmq_management_user,
        password=servers.rabbitmq_management_password,
    )


@pytest.fixture
async def private_amqp_settings(servers: Addresses) -> AsyncIterator[AmqpSettings]:
    """Give a virtual host of RabbitMQ to the test alone; MinIO's events do not arrive in it."""
    async with open_virtual_host(servers) as settings:
        yield settings


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def fetch_amqp_settings(servers: Addresses) -> AsyncIterator[AmqpSettings]:
    """A virtual host for the fetcher's many queues, which tests use one after the other."""
    async with open_virtual_host(servers) as settings:
        yield settings


@pytest.fixture(scope="session")
def mongo_client(servers: Addresses) -> Iterator[MongoClient[dict[str, object]]]:
    """One connection to clean up after every test."""
    with MongoClient[dict[str, object]](servers.mongo_url.get_secret_value()) as client:
        yield client


@pytest.fixture
def mongo_settings(
    servers: Addresses, mongo_client: MongoClient[dict[str, object]]
) -> Iterator[MongoSettings]:
    """MongoDB, and the name of a database that is dropped afterwards."""
    url = MongoDsn(servers.mongo_url.get_secret_value())
    settings = MongoSettings(url=url, database=f"test-{uuid4().hex}", timeout_seconds=60.0)
    yield settings
    mongo_client.drop_database(settings.database)


@pytest.fixture
async def database(mongo_settings: MongoSettings) -> AsyncIterator[Database]:
    """An empty database with the indexes."""
    async with open_database(mongo_settings) as database:
        await database.create_indexes()
        yield database


@pytest.fixture
async def store(s3_settings: S3Settings) -> AsyncIterator[ObjectStore]:
    """An empty bucket without notifications."""
    async with open_object_store(s3_settings) as store:
        await store.client.create_bucket(Bucket=store.bucket)
        yield store


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models, as the settings name it."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("OCR_MODELS", str(folder))
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chaos",
        choices=["short", "cuts", "long"],
        default="short",
        help="form of tests/chaos: short (2 min); long (10 min), which also kills programs between "
        "two writes; cuts (2 min), which only does that",
    )
    parser.addoption(
        "--chaos-seed",
        default="1",
        help="decides the order of the faults of tests/chaos, and between which writes",
    )
