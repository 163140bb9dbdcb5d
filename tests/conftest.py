"""Fixtures of all tests: real servers, and settings that share nothing between two tests."""

import logging
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
import pytest_asyncio
import structlog
from motor.motor_asyncio import AsyncIOMotorClient
from pydantic import AmqpDsn, HttpUrl, MongoDsn

from infra.local.stack import Addresses
from services.common.object_store import open_object_store
from services.common.settings import AmqpSettings, MongoSettings, S3Settings
from services.provisioner.settings import RabbitmqManagementSettings
from tests.support.servers import open_virtual_host, real_servers


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


@pytest.fixture
async def s3_settings(servers: Addresses) -> AsyncIterator[S3Settings]:
    """MinIO, and the name of a bucket that is removed afterwards where the test made it."""
    settings = S3Settings(
        endpoint_url=HttpUrl(servers.s3_endpoint_url),
        access_key_id=servers.s3_access_key_id,
        secret_access_key=servers.s3_secret_access_key,
        bucket=f"test-{uuid4().hex}",
    )
    yield settings
    async with open_object_store(settings) as store:
        client, bucket = store.client, settings.bucket
        if bucket in {each["Name"] for each in (await client.list_buckets())["Buckets"]}:
            async for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                for each in page.get("Contents", []):
                    await client.delete_object(Bucket=bucket, Key=each["Key"])
            await client.delete_bucket(Bucket=bucket)


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


@pytest.fixture
async def mongo_settings(servers: Addresses) -> AsyncIterator[MongoSettings]:
    """MongoDB, and the name of a database that is dropped afterwards."""
    url = servers.mongo_url.get_secret_value()
    settings = MongoSettings(url=MongoDsn(url), database=f"test-{uuid4().hex}")
    yield settings
    client: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(url)
    await client.drop_database(settings.database)
    client.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chaos", choices=["short", "long"], default="short", help="form of tests/chaos"
    )
    parser.addoption("--chaos-seed", default="1", help="order of the faults of tests/chaos")
