"""From a real MinIO's own events, through a real RabbitMQ, to documents in a real index."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import aio_pika
import pytest
from aiohttp import web
from typing_extensions import override

from services.common.adapters.collections import IMAGES
from services.common.adapters.documents import schema_of
from services.common.adapters.mongo import Collection, Database, Document, Filter
from services.common.adapters.object_store import ObjectStore, open_object_store
from services.common.adapters.rabbitmq.retry_policy import Outcome, Queues
from services.common.domain.annotations import NORMALISATION
from services.common.domain.provenance import Provenance, to_metadata
from services.common.runtime.settings import AmqpSettings, S3Settings
from services.provisioner.bucket import set_up_bucket
from tests.support.indexing import Settlements, indexing, open_event_queues
from tests.support.ocr_api import ScriptedOcrApi, prediction, problem, scripted_ocr_api
from tests.support.waiting import eventually

LONG_URL = "http://example.test/" + "x" * 3000

IMAGE = b"any bytes: the scripted API does not decode them"


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


@dataclass
class Pipeline:
    store: ObjectStore
    database: Database
    settlements: Settlements

    @property
    def settled(self) -> list[tuple[Outcome, str]]:
        # foreign events are those of other tests: all share MinIO's exchange
        return [each for each in self.settlements.settled if each[1] != "foreign_event"]

    async def document(self, key: str, **fields: object) -> Document:
        where = {"_id": f"{self.store.bucket}/{key}", **fields}
        return await eventually(lambda: self.database.images.find_one(where))

    async def until_settled(self, code: str, count: int = 1) -> None:
        async def enough() -> bool:
            return [each for _, each in self.settled].count(code) >= count

        await eventually(enough)

    async def upload(
        self, key: str, content: bytes = IMAGE, provenance: Provenance | None = None
    ) -> str:
        metadata = to_metadata(provenance or Provenance())
        return await self.store.write(key, content, content_type="image/png", metadata=metadata)


Start = Callable[[], Awaitable[Pipeline]]


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


async def test_upload_becomes_a_predicted_document(start: Start) -> None:
    pipeline = await start()
    before = datetime.now(tz=UTC) - timedelta(seconds=5)

    etag = await pipeline.upload("a b/ligne é+1.png")

    document = await pipeline.document("a b/ligne é+1.png")
    assert document["status"] == "predicted"
    assert document["etag"] == etag
    assert document["sha256"] == sha256(IMAGE).hexdigest()
    assert (document["width"], document["height"], document["size"]) == (320, 48, len(IMAGE))
    assert document["content_type"] == "image/png"
    assert document["prediction"]["text"] == "industrie"
    assert document["prediction"]["model_version"] == "fake-1"
    (source,) = document["sources"]
    assert source.pop("at") == document["stored_at"]
    assert source == {"kind": "console", "collection": "a b", "name": "ligne é+1.png"}
    assert document["annotation"] is None
    assert document["uploaded_by"]
    assert before < document["stored_at"] <= document["indexed_at"] + timedelta(seconds=1)


async def test_fetched_image_keeps_where_it_came_from(start: Start) -> None:
    pipeline = await start()
    now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    provenance = Provenance("http://example.test/a%20b.png?q=1", "b1", "où est l'œuvre ?", now)

    await pipeline.upload("fetched/aa/a.png", provenance=provenance)

    document = await pipeline.document("fetched/aa/a.png")
    assert document["sources"] == [
        {"kind": "url", "url": "http://example.test/a%20b.png?q=1", "batch_id": "b1", "at": now}
    ]
    assert document["annotation"] == {
        "text": "où est l'œuvre ?",
        "quality": "ok",
        "how": "given",
        "by": "batch:b1",
        "at": now,
        "normalisation": NORMALISATION,
    }


async def test_text_that_came_with_earlier_bytes_is_no_label_of_later_ones(
    start: Start, store: ObjectStore
) -> None:
    """Both were written while no consumer ran: the first event finds the second one's bytes."""
    first = to_metadata(Provenance("http://a.test/", "b1", "of the first bytes"))
    await store.write("a.png", b"first", content_type="image/png", metadata=first)
    etag = await store.write("a.png", b"second", content_type="image/png", metadata={})
    pipeline = await start()

    async def both() -> bool:
        return len(pipeline.settled) == 2

    await eventually(both)
    document = await pipeline.document("a.png")
    assert (document["etag"], document["annotation"]) == (etag, None)
    # in the order of the two events, which may be either
    assert [each["url"] for each in document["sources"] if "url" in each] == ["http://a.test/"]


async def test_proof_of_an_image_that_was_deleted_before_it_was_read_names_its_source(
    start: Start, store: ObjectStore
) -> None:
    metadata = to_metadata(Provenance("http://a.test/", "b1", "its text"))
    await store.write("a.png", IMAGE, content_type="image/png", metadata=metadata)
    await store.erase("a.png")
    pipeline = await start()

    await pipeline.until_settled("removed")
    document = await pipeline.document("a.png", **{"sources.url": "http://a.test/"})
    assert document["status"] == "removed"
    assert (document["prediction"], document["annotation"]) == (None, None)


@pytest.mark.parametrize(
    ("stored", "kept"),
    [({"source_url": f"{LONG_URL}?kept=REDACTED"}, f"{LONG_URL}?kept=REDACTED"), ({}, LONG_URL)],
    ids=["redacted by the fetcher", "of an earlier version"],
)
async def test_source_too_long_for_a_header_is_looked_up(
    start: Start, monkeypatch: pytest.MonkeyPatch, stored: Document, kept: str
) -> None:
    monkeypatch.setenv("FETCHER_REDACT_QUERY", "nothing-of-the-kind")
    pipeline = await start()
    url = f"{LONG_URL}?kept=s3cret"
    await pipeline.database.fetches.insert(
        {"_id": "b1/1", "batch_id": "b1", "url": url, "annotation": "long", **stored}
    )

    await pipeline.upload("long.png", provenance=Provenance(url, "b1", "long", None, "b1/1"))

    document = await pipeline.document("long.png")
    assert document["sources"][0]["url"] == kept
    assert document["annotation"]["text"] == "long"


async def test_source_that_fits_a_header_is_kept_beside_an_annotation_that_is_looked_up(
    start: Start,
) -> None:
    pipeline = await start()
    kept, annotation = "http://example.test/a?key=REDACTED", "é" * 1000
    real = "http://example.test/a?key=s3cret"
    await pipeline.database.fetches.insert(
        {"_id": "b1/1", "batch_id": "b1", "url": real, "annotation": annotation}
    )

    await pipeline.upload("long.png", provenance=Provenance(kept, "b1", annotation, None, "b1/1"))

    document = await pipeline.document("long.png")
    assert document["sources"][0]["url"] == kept
    assert document["annotation"]["text"] == annotation


async def test_candidate_delays_no_reading_and_changes_no_prediction(
    store: ObjectStore,
    database: Database,
    ocr_api: ScriptedOcrApi,
    queues: Queues,
    amqp_settings: AmqpSettings,
) -> None:
    is_released = asyncio.Event()

    async def read_late(_: bytes) -> web.Response:
        await is_released.wait()
        return web.json_response(prediction("industry", model_version="candidate"))

    async def has_begun() -> bool:
        return bool(candidate.seen)

    async with (
        scripted_ocr_api() as candidate,
        indexing(
            ocr_api,
            store=store,
            database=database,
            amqp=amqp_settings,
            queues=queues,
            candidate=candidate,
        ) as settlements,
    ):
        candidate.answer = read_late
        pipeline = Pipeline(store, database, settlements)
        await pipeline.upload("a.png")
        await eventually(has_begun)
        await pipeline.upload("b.png", b"other bytes")
        await pipeline.until_settled("predicted", 2)
        is_released.set()
        documents = [
            await pipeline.document(key, disagreement={"$ne": None}) for key in ("a.png", "b.png")
        ]

    for each in documents:
        assert each["prediction"]["model_version"] == "fake-1"
        assert [one["model_version"] for one in each["history"]] == ["candidate"]


class LateFetches(Collection):
    """Has a fetch right after it was looked for in vain."""

    late: Document

    @override
    async def find_one(self, where: Filter) -> Document | None:
        found = await super().find_one(where)
        if found is None:
            await self.insert(self.late)
        return found


async def test_fetch_that_is_written_down_late_is_waited_for(
    start: Start, database: Database
) -> None:
    database.fetches = LateFetches(database.fetches._collection)
    url, annotation = "http://example.test/a", "é" * 1000
    database.fetches.late = {"_id": "b1/1", "batch_id": "b1", "url": url, "annotation": annotation}
    pipeline = await start()

    await pipeline.upload("late.png", provenance=Provenance(url, "b1", annotation, None, "b1/1"))

    document = await pipeline.document("late.png")
    assert document["annotation"]["text"] == annotation
    await pipeline.until_settled("predicted")
    assert pipeline.settled == [
        (Outcome.RETRIED, "fetch_not_found"),
        (Outcome.ACKED, "predicted"),
    ]


async def test_image_whose_fetch_is_gone_for_good_is_read_all_the_same(start: Start) -> None:
    pipeline = await start()
    gone = Provenance("http://example.test/a", "b1", "é" * 1000, None, "b1/1")

    await pipeline.upload("gone.png", provenance=gone)

    document = await pipeline.document("gone.png", status="predicted")
    assert document["sources"][0]["url"] == "http://example.test/a"
    assert document["annotation"] is None


async def test_same_bytes_again_add_their_source_without_a_second_prediction(
    start: Start, ocr_api: ScriptedOcrApi
) -> None:
    pipeline = await start()
    for host in ("one", "two"):
        url = f"http://{host}.test/a.png"
        await pipeline.upload("same.png", provenance=Provenance(url, "b"))
        await pipeline.document("same.png", **{"sources.url": url})

    document = await pipeline.document("same.png")
    assert [source["url"] for source in document["sources"]] == [
        "http://one.test/a.png",
        "http://two.test/a.png",
    ]
    assert len(ocr_api.seen) == 1


async def test_source_whose_event_was_lost_is_learnt_with_the_next(
    start: Start, ocr_api: ScriptedOcrApi
) -> None:
    """MinIO was killed between an object and its event; the same bytes came from another URL."""
    pipeline = await start()
    key, now = "fetched/ab/abcd.png", datetime.now(tz=UTC)
    first = {
        "url": "http://one.test/a?token=s3cret",
        "source_url": "http://one.test/a?token=REDACTED",
        "annotation": "said",
        "batch_id": "b",
    }
    finished = {"lost": (first, -60), "later": ({**first, "url": "http://later.test/"}, 60)}
    for name, (item, seconds) in finished.items():
        at = now + timedelta(seconds=seconds)
        await pipeline.database.fetches.insert({"_id": name, "key": key, "finished_at": at, **item})

    await pipeline.upload(key, provenance=Provenance("http://two.test/a", "c"))

    document = await pipeline.document(key, **{"sources.url": "http://two.test/a"})
    assert [(source["url"], source["batch_id"]) for source in document["sources"]] == [
        ("http://one.test/a?token=REDACTED", "b"),
        ("http://two.test/a", "c"),
    ]
    assert document["annotation"]["text"] == "said"
    await pipeline.until_settled("predicted")
    assert len(ocr_api.seen) == 1


async def test_other_bytes_under_a_key_are_predicted_anew(
    start: Start, ocr_api: ScriptedOcrApi
) -> None:
    pipeline = await start()
    await pipeline.upload("changing.png", b"first")
    await pipeline.document("changing.png")
    etag = await pipeline.upload("changing.png", b"second")

    document = await pipeline.document("changing.png", etag=etag)
    assert document["sha256"] == sha256(b"second").hexdigest()
    assert len(ocr_api.seen) == 2


async def test_tag_changes_cause_no_prediction(start: Start, ocr_api: ScriptedOcrApi) -> None:
    pipeline = await start()
    await pipeline.upload("tagged.png")
    await pipeline.document("tagged.png")
    await pipeline.store.client.put_object_tagging(
        Bucket=pipeline.store.bucket,
        Key="tagged.png",
        Tagging={"TagSet": [{"Key": "a", "Value": "b"}]},
    )
    await pipeline.upload("after.png", b"later event of the same queue")
    await pipeline.document("after.png")

    assert len(ocr_api.seen) == 2


@pytest.mark.parametrize(
    ("status", "code"),
    [(415, "unsupported_media_type"), (422, "undecodable_image"), (413, "image_too_large")],
)
async def test_refused_image_is_rejected_with_its_reason_and_the_next_goes_on(
    start: Start, ocr_api: ScriptedOcrApi, status: int, code: str
) -> None:
    async def refuse_bad(image: bytes) -> web.Response:
        if image == b"bad":
            return problem(status, code, "what is wrong")
        return web.json_response(prediction())

    ocr_api.answer = refuse_bad
    pipeline = await start()
    await pipeline.upload("bad.png", b"bad")
    await pipeline.upload("good.png", b"good")

    document = await pipeline.document("bad.png")
    assert document["status"] == "rejected"
    assert document["error"] == {"code": code, "detail": "what is wrong"}
    assert document["prediction"] is None
    assert (await pipeline.document("good.png"))["status"] == "predicted"


@pytest.mark.parametrize(
    "refusal",
    [
        lambda: web.Response(status=413, text="<h1>Entity Too Large</h1>"),
        lambda: web.json_response({"detail": [{"loc": ["body"]}]}, status=422),
        lambda: web.json_response({"code": "undecodable_image"}, status=422),
        lambda: problem(422, "invalid_request"),
        lambda: problem(415, ""),
    ],
    ids=["gateway", "other service", "no problem", "not of the image", "no code"],
)
async def test_refusal_that_is_not_of_the_image_rejects_nothing(
    start: Start, ocr_api: ScriptedOcrApi, refusal: Callable[[], web.Response]
) -> None:
    async def refuse(_: bytes) -> web.Response:
        return refusal()

    ocr_api.answer = refuse
    pipeline = await start()
    await pipeline.upload("good.png")

    await pipeline.until_settled("ocr_failed", 2)

    assert pipeline.settled[-1] == (Outcome.PARKED, "ocr_failed")
    assert await pipeline.database.images.count({}) == 0


async def test_object_over_the_limit_is_rejected_unread(
    start: Start, ocr_api: ScriptedOcrApi
) -> None:
    pipeline = await start()
    await pipeline.upload("huge.png", b"x" * 100_001)

    document = await pipeline.document("huge.png")
    assert document["error"]["code"] == "image_too_large"
    assert ocr_api.seen == []


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=500),
        web.Response(text="garbage"),
        web.Response(text='{"text": "a", "score": NaN}', content_type="application/json"),
        web.json_response(prediction(score=1.5)),
        web.json_response({"text": "only"}),
    ],
    ids=["500", "garbage", "nan", "score over 1", "fields missing"],
)
async def test_image_that_the_api_fails_on_is_retried_later(
    start: Start, ocr_api: ScriptedOcrApi, answer: web.Response
) -> None:
    body, status = answer.body, answer.status

    async def fail_once(_: bytes) -> web.Response:
        if len(ocr_api.seen) == 1:
            return web.Response(body=body, status=status)
        return web.json_response(prediction())

    ocr_api.answer = fail_once
    pipeline = await start()
    await pipeline.upload("a.png")

    assert (await pipeline.document("a.png"))["status"] == "predicted"
    assert pipeline.settled[0] == (Outcome.RETRIED, "ocr_failed")


async def test_api_that_is_down_delays_and_loses_nothing(
    start: Start, ocr_api: ScriptedOcrApi
) -> None:
    async def overloaded(_: bytes) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": "1"})

    ocr_api.is_ready, ocr_api.answer = False, overloaded
    pipeline = await start()
    for number in range(10):
        await pipeline.upload(f"{number}.png", f"{number}".encode())
    await pipeline.until_settled("ocr_unavailable")
    assert await pipeline.database.images.count({}) == 0

    ocr_api.is_ready, ocr_api.answer = True, ocr_api.read_all
    for number in range(10):
        assert (await pipeline.document(f"{number}.png"))["status"] == "predicted"
    assert Outcome.PARKED not in {outcome for outcome, _ in pipeline.settled}


async def test_api_that_hangs_on_one_image_delays_only_that_one(
    start: Start, ocr_api: ScriptedOcrApi
) -> None:
    async def hang_once(image: bytes) -> web.Response:
        if image == b"slow" and len(set(ocr_api.seen)) == 1:
            await asyncio.Event().wait()
        return web.json_response(prediction())

    ocr_api.answer = hang_once
    pipeline = await start()
    await pipeline.upload("slow.png", b"slow")
    await pipeline.upload("quick.png", b"quick")

    assert (await pipeline.document("quick.png"))["status"] == "predicted"
    assert (await pipeline.document("slow.png"))["status"] == "predicted"


async def test_removed_object_is_erased_and_its_sources_stay(start: Start) -> None:
    pipeline = await start()
    url = "http://example.test/a.png"
    await pipeline.upload("a.png", provenance=Provenance(url, "b", "text"))
    await pipeline.document("a.png")
    await pipeline.store.delete("a.png")

    document = await pipeline.document("a.png", status="removed")
    assert document["prediction"] is None
    assert document["annotation"] is None
    assert document["sources"][0]["url"] == url

    await pipeline.upload("a.png")
    assert (await pipeline.document("a.png", status="predicted"))["sources"][0]["url"] == url


async def test_folder_made_in_the_console_is_no_image(start: Start) -> None:
    pipeline = await start()
    await pipeline.upload("scans/", b"")
    await pipeline.until_settled("folder")

    assert await pipeline.database.images.count({}) == 0


async def test_foreign_message_is_parked(
    start: Start, amqp_settings: AmqpSettings, queues: Queues
) -> None:
    pipeline = await start()
    connection = await aio_pika.connect(str(amqp_settings.url))
    async with connection, connection.channel() as channel:
        await channel.default_exchange.publish(aio_pika.Message(b"hello"), queues.work)
        await pipeline.until_settled("invalid_event")
        queue = await channel.get_queue(queues.parked)
        while (parked := await queue.get(no_ack=True)).body != b"hello":
            assert parked.headers["x-code"] == "foreign_event"
        assert parked.headers["x-code"] == "invalid_event"


async def test_two_consumers_write_each_document_once(start: Start) -> None:
    first, second = await start(), await start()
    for number in range(30):
        await first.upload(f"{number % 10}.png", f"{number % 10}".encode())
    for number in range(10):
        await first.document(f"{number}.png")

    async def all_settled() -> bool:
        return len(first.settled) + len(second.settled) >= 30

    await eventually(all_settled)
    assert await first.database.images.count({}) == 10
    assert await first.database.images.count({"status": "predicted"}) == 10
