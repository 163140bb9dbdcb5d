"""MongoDB that answers slowly, or not in time: everything is indexed in the end, nothing parked."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from pydantic import MongoDsn
from yarl import URL

from services.common.adapters.mongo import Database, open_database
from services.common.adapters.object_store import ObjectStore, open_object_store
from services.common.adapters.rabbitmq.messaging import open_publisher
from services.common.adapters.rabbitmq.retry_policy import DeliveryOutcome, Queues
from services.common.adapters.synthetic_events import sequencer_at, stored_notification
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from tests.support.indexing import Settlements, indexing, open_queues
from tests.support.ocr_api import scripted_ocr_api
from tests.support.slow_link import SlowLink, open_slow_link
from tests.support.waiting import eventually, until

IMAGES = 4


@dataclass
class Running:
    settlements: Settlements
    link: SlowLink
    database: Database
    store: ObjectStore
    amqp: AmqpSettings
    queues: Queues

    async def queue_images(self) -> None:
        async with open_publisher(self.amqp) as publisher:
            for number in range(IMAGES):
                key = f"slow/{number}.png"
                await self.store.write(key, b"image", content_type="image/png", metadata={})
                stored = await self.store.head(key)
                assert stored is not None
                body = stored_notification(
                    self.store.bucket, stored, sequencer=sequencer_at(stored.stored_at)
                )
                await publisher.publish(body, queue=self.queues.work)

    async def all_indexed(self) -> bool:
        return await self.database.images.count({"status": "predicted"}) == IMAGES


@pytest.fixture
async def running(
    request: pytest.FixtureRequest,
    amqp_settings: AmqpSettings,
    s3_settings: S3Settings,
    mongo_settings: MongoSettings,
) -> AsyncIterator[Running]:
    server = URL(str(mongo_settings.url))
    assert server.host
    async with (
        open_slow_link(server.host, server.port or 27017) as link,
        open_object_store(s3_settings) as store,
        open_database(mongo_settings) as database,
        scripted_ocr_api() as ocr_api,
        open_queues(amqp_settings) as queues,
    ):
        await store.client.create_bucket(Bucket=store.bucket)
        await database.create_indexes()
        slow = mongo_settings.model_copy(
            update={
                "url": MongoDsn(f"mongodb://127.0.0.1:{link.port}"),
                "timeout_seconds": request.param,
            }
        )
        async with (
            open_database(slow) as slowed,
            indexing(
                ocr_api, store=store, database=slowed, amqp=amqp_settings, queues=queues
            ) as settlements,
        ):
            yield Running(settlements, link, database, store, amqp_settings, queues)


@pytest.mark.parametrize("running", [10.0], indirect=True, ids=["10 s"])
async def test_a_slow_answer_only_costs_time(running: Running) -> None:
    running.link.delay_seconds = 1.0
    await running.queue_images()
    await eventually(running.all_indexed)
    await running.settlements.until(IMAGES)
    assert set(running.settlements.settled) == {(DeliveryOutcome.ACKED, "predicted")}


@pytest.mark.parametrize("running", [0.5], indirect=True, ids=["0.5 s"])
async def test_too_late_answers_pause_consuming_and_park_nothing(running: Running) -> None:
    running.link.delay_seconds = 4.0  # the driver waits 4 * 0.5 s
    await running.queue_images()

    await until(
        lambda: (DeliveryOutcome.RETURNED, "index_unavailable") in running.settlements.settled
    )
    running.link.delay_seconds = 0.0
    await eventually(running.all_indexed)
    await running.settlements.until(IMAGES)
    outcomes = {outcome for outcome, _ in running.settlements.settled}
    assert outcomes <= {DeliveryOutcome.ACKED, DeliveryOutcome.RETURNED}
