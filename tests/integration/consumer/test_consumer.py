"""From a real MinIO's own events, through a real RabbitMQ, to documents in a real database."""

import asyncio
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from aiohttp import ClientSession, FormData, web
from typing_extensions import override

from services.common.adapters.mongo import Collection, Database, Document, Filter
from services.common.adapters.object_store import ObjectStore
from services.common.adapters.rabbitmq.retry_policy import DeliveryOutcome, Queues
from services.common.domain.annotations import NORMALISATION
from services.common.domain.provenance import Provenance, to_metadata
from services.common.runtime.settings import AmqpSettings
from tests.support.indexing import IMAGE, Pipeline, Start, indexing
from tests.support.ocr_api import ScriptedOcrApi, prediction, scripted_ocr_api
from tests.support.waiting import until

LONG_URL = "http://example.test/" + "x" * 3000


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


async def test_text_of_earlier_bytes_does_not_label_later_ones(
    start: Start, store: ObjectStore
) -> None:
    """Both were written while no consumer ran: the first event finds the second one's bytes."""
    first = to_metadata(Provenance("http://a.test/", "b1", "of the first bytes"))
    await store.write("a.png", b"first", content_type="image/png", metadata=first)
    etag = await store.write("a.png", b"second", content_type="image/png", metadata={})
    pipeline = await start()

    await until(lambda: len(pipeline.settled) == 2)
    document = await pipeline.document("a.png")
    assert (document["etag"], document["annotation"]) == (etag, None)
    # in the order of the two events, which may be either
    assert [each["url"] for each in document["sources"] if "url" in each] == ["http://a.test/"]


async def test_proof_of_an_unread_deleted_image_names_its_source(
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


async def test_looked_up_annotation_leaves_the_source_of_the_header(start: Start) -> None:
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
        await until(lambda: bool(candidate.seen))
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
        (DeliveryOutcome.RETRIED, "fetch_not_found"),
        (DeliveryOutcome.ACKED, "predicted"),
    ]


async def test_image_without_its_fetch_is_still_read(start: Start) -> None:
    pipeline = await start()
    gone = Provenance("http://example.test/a", "b1", "é" * 1000, None, "b1/1")

    await pipeline.upload("gone.png", provenance=gone)

    document = await pipeline.document("gone.png", status="predicted")
    assert document["sources"][0]["url"] == "http://example.test/a"
    assert document["annotation"] is None


async def test_same_bytes_add_a_source_but_no_second_prediction(
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


async def test_other_bytes_under_a_key_are_predicted_again(
    start: Start, ocr_api: ScriptedOcrApi
) -> None:
    pipeline = await start()
    await pipeline.upload("changing.png", b"first")
    await pipeline.document("changing.png")
    etag = await pipeline.upload("changing.png", b"second")

    document = await pipeline.document("changing.png", etag=etag)
    assert document["sha256"] == sha256(b"second").hexdigest()
    assert len(ocr_api.seen) == 2


async def test_upload_by_the_form_of_a_web_page_is_read(start: Start) -> None:
    pipeline = await start()
    form = await pipeline.store.client.generate_presigned_post(pipeline.store.bucket, "form.png")
    data = FormData(form["fields"])
    data.add_field("file", IMAGE, filename="form.png", content_type="image/png")

    async with ClientSession() as session, session.post(form["url"], data=data) as response:
        assert response.status == 204

    await pipeline.document("form.png", status="predicted")


async def test_removal_of_a_version_leaves_the_image_and_annotation(
    start: Start, ocr_api: ScriptedOcrApi
) -> None:
    pipeline = await start()
    store = pipeline.store
    await store.client.put_bucket_versioning(
        Bucket=store.bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    old = await store.client.put_object(Bucket=store.bucket, Key="a.png", Body=b"old")
    await pipeline.until_settled("predicted")
    etag = await pipeline.upload("a.png", provenance=Provenance(batch_id="b", annotation="text"))
    await pipeline.until_settled("predicted", 2)
    await pipeline.document("a.png", etag=etag, annotation={"$ne": None})

    await store.client.delete_object(Bucket=store.bucket, Key="a.png", VersionId=old["VersionId"])

    await pipeline.upload("after.png", b"later event of the same queue")
    await pipeline.document("after.png", status="predicted")
    await pipeline.until_settled("stale")
    document = await pipeline.document("a.png")
    assert (document["status"], document["annotation"]["text"]) == ("predicted", "text")
    assert len(ocr_api.seen) == 3
    await store.delete("a.png")
    await pipeline.document("a.png", status="removed")


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
