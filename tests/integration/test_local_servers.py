"""The servers as child processes: they work together, and never outlive their parent."""

import asyncio
import json

import aio_pika
import pytest

from infra.local.stack import Addresses
from services.common.adapters.mongo import open_database
from services.common.adapters.object_store import open_object_store
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from services.provisioner.bucket import set_up_bucket
from tests.support.notifying import USUAL_ARN

pytestmark = pytest.mark.integration


async def test_event_of_an_upload_arrives_in_a_queue_bound_to_the_exchange(
    s3_settings: S3Settings, amqp_settings: AmqpSettings
) -> None:
    connection = await aio_pika.connect(str(amqp_settings.url))
    async with connection, open_object_store(s3_settings) as store:
        channel = await connection.channel()
        exchange = await channel.declare_exchange("raw.events", "topic", durable=True)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, "raw")
        await set_up_bucket(store, notification_arn=USUAL_ARN)

        await store.write("a/line.png", b"bytes", content_type="image/png", metadata={})

        async with asyncio.timeout(20), queue.iterator(no_ack=True) as messages:
            async for message in messages:
                if json.loads(message.body)["Key"] == f"{s3_settings.bucket}/a/line.png":
                    break
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT


async def test_private_virtual_host_is_empty_and_usable(
    private_amqp_settings: AmqpSettings,
) -> None:
    connection = await aio_pika.connect(str(private_amqp_settings.url))
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("ocr.jobs", exclusive=True)
        assert queue.declaration_result.message_count == 0


async def test_database_answers(mongo_settings: MongoSettings) -> None:
    async with open_database(mongo_settings) as database:
        await database.check()


def test_passwords_of_the_addresses_are_not_shown(servers: Addresses) -> None:
    assert "://" not in repr(servers.amqp_url)
    assert servers.s3_secret_access_key.get_secret_value() not in repr(servers.s3_secret_access_key)
