"""Reading images again: earlier predictions are kept, and nothing comes back that is gone."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from aiohttp import web

from services.cli.images import Status
from services.cli.repredict import job_for, queue_all, selection
from services.common.adapters.collections import IMAGES
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import open_database
from services.common.adapters.object_store import open_object_store
from services.common.adapters.rabbitmq.messaging import Publisher, open_publisher
from services.common.adapters.rabbitmq.retry_policy import DeliveryOutcome, Queues
from services.common.adapters.repository import schema_of
from services.common.adapters.synthetic_events import sequencer_at, stored_notification
from services.common.domain.events import parse_job
from services.common.domain.image_filter import NO_LIMITS
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from tests.factories import document as image_document
from tests.support.indexing import Indexed, Settlements, indexing, open_queues
from tests.support.ocr_api import ScriptedOcrApi, prediction, problem, scripted_ocr_api


@dataclass
class Site(Indexed):
    publisher: Publisher
    queues: Queues
    ocr_api: ScriptedOcrApi
    settlements: Settlements

    def new_model(self, version: str, text: str = "industrie") -> None:
        async def answer(_: bytes) -> web.Response:
            return web.json_response(prediction(text, model_version=version))

        self.ocr_api.answer = answer

    async def upload(self, key: str, content: bytes = b"image") -> str:
        """Write an object and have its notification handled; return its ETag."""
        count = len(self.settlements.settled)
        etag = await self.store.write(key, content, content_type="image/png", metadata={})
        async for info in self.store.list():
            if info.key == key:
                body = stored_notification(
                    self.store.bucket, info, sequencer=sequencer_at(info.stored_at)
                )
                await self.publisher.publish(body, queue=self.queues.work)
        await self.settlements.until(count + 1)
        return etag

    async def repredict(
        self, *, model_version_not: str | None = None, status: Status | None = None, limit: int = 9
    ) -> int:
        where = selection(NO_LIMITS, model_version_not, status)
        count = len(self.settlements.settled)
        queued = await queue_all(
            ImageRepository(self.database.images), self.publisher, where, limit, self.queues.work
        )
        await self.settlements.until(count + queued)
        return queued


@pytest.fixture
async def site(
    s3_settings: S3Settings, mongo_settings: MongoSettings, amqp_settings: AmqpSettings
) -> AsyncIterator[Site]:
    async with (
        open_object_store(s3_settings) as store,
        open_database(mongo_settings) as database,
        open_queues(amqp_settings) as queues,
        open_publisher(amqp_settings) as publisher,
        scripted_ocr_api() as ocr_api,
        indexing(
            ocr_api, store=store, database=database, amqp=amqp_settings, queues=queues
        ) as settlements,
    ):
        await store.client.create_bucket(Bucket=store.bucket)
        await database.create_indexes()
        await database.require_schema(IMAGES, schema_of(IMAGES))
        yield Site(store, database, publisher, queues, ocr_api, settlements)


async def test_new_model_reads_again_and_keeps_the_old_prediction(site: Site) -> None:
    await site.upload("a.png")
    first = (await site.document("a.png", status="predicted"))["prediction"]
    for version, text in (("fake-2", "industry"), ("fake-3", "industrie!")):
        site.new_model(version, text)
        assert await site.repredict(model_version_not=version) == 1
        assert await site.repredict(model_version_not=version) == 0

    document = await site.document("a.png")
    assert document["prediction"]["model_version"] == "fake-3"
    assert document["history"][0] == first
    assert [each["text"] for each in document["history"]] == ["industrie", "industry"]
    assert document["disagreement"] == pytest.approx(3 / 10)  # edits by length


async def test_image_that_a_new_model_refuses_keeps_its_prediction(site: Site) -> None:
    await site.upload("a.png")
    await site.document("a.png", status="predicted")

    async def refuse(_: bytes) -> web.Response:
        return problem(422, "undecodable_image", "no")

    site.ocr_api.answer = refuse
    await site.repredict()

    document = await site.document("a.png", status="rejected")
    assert document["prediction"] is None
    assert document["history"][0]["text"] == "industrie"
    assert document["disagreement"] is None
    site.new_model("fake-3")
    assert await site.repredict(status=Status.PREDICTED) == 0
    assert await site.repredict(status=Status.REJECTED) == 1
    assert (await site.document("a.png", status="predicted"))["error"] is None


async def test_limit_bounds_what_is_queued(site: Site) -> None:
    for number in range(3):
        await site.upload(f"{number}.png", f"{number}".encode())
        await site.document(f"{number}.png", status="predicted")

    assert await site.repredict(limit=2) == 2


async def test_invalid_job_is_parked(site: Site) -> None:
    await site.publisher.publish(b'{"repredict":{"key": 1}}', queue=site.queues.work)

    await site.settlements.until(1)
    assert site.settlements.settled == [(DeliveryOutcome.PARKED, "invalid_event")]


async def test_overloaded_api_does_not_stop_the_consumer(site: Site) -> None:
    async def overloaded_twice(_: bytes) -> web.Response:
        if len(site.ocr_api.seen) <= 2:
            answer = problem(503, "overloaded")
            answer.headers["Retry-After"] = "0"
            return answer
        return web.json_response(prediction())

    site.ocr_api.answer = overloaded_twice
    await site.upload("a.png")

    assert (await site.document("a.png"))["status"] == "predicted"
    await site.settlements.until(1)
    assert site.settlements.settled == [(DeliveryOutcome.ACKED, "predicted")]


def test_job_is_what_it_was_after_its_way_through_a_message() -> None:
    document = image_document(_id="raw/é😀.png", key="é😀.png")

    assert parse_job(job_for(document).body()) == job_for(document)
    assert parse_job(b'{"Records": []}') is None
