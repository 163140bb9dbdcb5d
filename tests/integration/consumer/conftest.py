"""Consumers of a bucket that notifies."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from services.common.adapters.collections import IMAGES
from services.common.adapters.mongo import Database
from services.common.adapters.object_store import ObjectStore, open_object_store
from services.common.adapters.rabbitmq.retry_policy import Queues
from services.common.adapters.repository import schema_of
from services.common.runtime.settings import AmqpSettings, S3Settings
from services.provisioner.bucket import set_up_bucket
from tests.support.indexing import Pipeline, Start, indexing, open_event_queues
from tests.support.ocr_api import ScriptedOcrApi, scripted_ocr_api


@pytest.fixture
async def queues(amqp_settings: AmqpSettings) -> AsyncIterator[Queues]:
    """Queues of this test alone, beside the real one on MinIO's exchange."""
    async with open_event_queues(amqp_settings) as queues:
        yield queues


@pytest.fixture
async def store(
    s3_settings: S3Settings, notification_arn: str, queues: Queues
) -> AsyncIterator[ObjectStore]:
    assert queues.work  # bound before MinIO is told to notify
    async with open_object_store(s3_settings) as store:
        await set_up_bucket(store, notification_arn=notification_arn)
        yield store


@pytest.fixture
async def ocr_api() -> AsyncIterator[ScriptedOcrApi]:
    async with scripted_ocr_api() as api:
        yield api


@pytest.fixture
async def start(
    store: ObjectStore,
    database: Database,
    ocr_api: ScriptedOcrApi,
    queues: Queues,
    amqp_settings: AmqpSettings,
) -> AsyncIterator[Start]:
    """Start consumers; each is stopped after the test."""
    await database.require_schema(IMAGES, schema_of(IMAGES))
    async with AsyncExitStack() as consumers:

        async def start() -> Pipeline:
            consumer = indexing(
                ocr_api, store=store, database=database, amqp=amqp_settings, queues=queues
            )
            return Pipeline(store, database, await consumers.enter_async_context(consumer))

        yield start
