"""The servers as child processes: they work together, and never outlive their parent."""

import json
import os
import signal
from itertools import count
from pathlib import Path

import aio_pika
from aiohttp import ClientError, ClientSession

from infra.local import servers
from infra.local.locate import locate_minio
from infra.local.ports import pick_free_ports
from infra.local.servers import Home
from infra.local.settings import LocalSettings
from infra.local.stack import BUCKET, Addresses, located
from infra.local.supervisor import Supervisor
from services.common.adapters.mongo import open_database
from services.common.adapters.object_store import ObjectStore, open_object_store, sibling
from services.common.domain.page import PAGES_BUCKET
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from services.provisioner.bucket import set_up_bucket
from tests.support.notifying import PAGES_ARN, USUAL_ARN
from tests.support.servers import s3_settings_at
from tests.support.waiting import deadline, until


async def test_event_of_an_upload_arrives_in_a_bound_queue(
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

        async with deadline(), queue.iterator(no_ack=True) as messages:
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
        assert await database.images.size() == 0


def test_passwords_of_the_addresses_are_not_shown(servers: Addresses) -> None:
    assert "://" not in repr(servers.amqp_url)
    assert servers.s3_secret_access_key.get_secret_value() not in repr(servers.s3_secret_access_key)


async def test_no_object_is_accepted_before_the_rules_of_its_bucket(tmp_path: Path) -> None:
    home = Home(LocalSettings(folder=tmp_path), pick_free_ports())
    settings = s3_settings_at(home)
    news: list[str] = []
    async with (
        Supervisor(on_event=news.append) as supervisor,
        open_object_store(settings) as raw,
        ClientSession() as http,
    ):
        # RabbitMQ is not there: events stay in their folders
        await supervisor.start(servers.minio(located("MinIO", locate_minio), home))
        buckets = {USUAL_ARN: raw, PAGES_ARN: sibling(raw, PAGES_BUCKET)}
        for arn, store in buckets.items():
            await set_up_bucket(store, notification_arn=arn)

        os.kill(supervisor.pid("minio"), signal.SIGKILL)

        accepted: set[tuple[str, str]] = set()
        for key in map(str, count()):
            is_ready = "minio is ready again" in news
            for store in buckets.values():
                if await puts(http, store, key):
                    accepted.add((store.bucket, key))
            if is_ready:
                break
        assert {bucket for bucket, _ in accepted} == {BUCKET, PAGES_BUCKET}

        await until(lambda: accepted <= stored_events(tmp_path / "minio"))


async def puts(http: ClientSession, store: ObjectStore, key: str) -> bool:
    """Write an object, in one attempt; return whether it was accepted."""
    where = {"Bucket": store.bucket, "Key": key}
    url = await store.client.generate_presigned_url("put_object", Params=where)
    try:
        async with http.put(url, data=b"image") as response:
            return response.status == 200
    except ClientError:
        return False


def stored_events(folder: Path) -> set[tuple[str, str]]:
    """Return bucket and key of the events that wait in MinIO's folders."""
    files = (path.read_bytes() for path in folder.glob("events*/*/*.event"))
    events = [json.loads(file)["s3"] for file in files if file.endswith(b"}")]
    return {(event["bucket"]["name"], event["object"]["key"]) for event in events}
