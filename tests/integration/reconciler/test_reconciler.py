"""The reconciler on a real bucket, real queues and real documents, with the real consumer."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import ClientSession

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.rabbitmq.messaging import open_publisher
from services.common.adapters.rabbitmq.retry_policy import CODE_HEADER
from services.common.adapters.synthetic_events import (
    removed_notification,
    sequencer_at,
    stored_notification,
)
from services.common.domain.provenance import Provenance
from services.common.runtime.settings import S3Settings
from services.reconciler import passes
from services.reconciler.compare import BucketPart, State
from services.reconciler.passes import make_pass
from services.reconciler.settings import ReconcilerSettings
from services.reconciler.uploads import queue_uploads
from tests.support.indexing import IMAGE
from tests.support.reconciling import Site, found
from tests.support.waiting import eventually


async def test_older_bucket_is_indexed_with_its_sources(site: Site) -> None:
    keys = ["a.png", "a-b/é 100%+.png", "😀.png", "\uffff.png", "z/z.png"]
    for key in keys:
        await site.upload(key, key.encode(), provenance=Provenance("http://a.test/1", "b1"))
    await site.upload("scans/", b"")

    report = await site.reconcile()
    async with site.consuming():
        for key in keys:
            document = await site.document(key, status="predicted")
            assert document["sources"][0]["url"] == "http://a.test/1"
            assert document["content_type"] == "image/png"

    assert found(report) == {State.MISSING: 5, State.FOLDER: 1}
    assert report.queued == 5
    again = await site.reconcile()
    assert found(again) == {State.IN_ORDER: 5, State.FOLDER: 1}
    assert again.queued == 0


async def test_what_is_in_flight_is_left_alone(site: Site) -> None:
    await site.upload("a.png")

    assert found(await site.reconcile(min_age=60)) == {State.YOUNG: 1}


async def test_dry_run_queues_nothing(site: Site) -> None:
    await site.upload("a.png")
    settings = ReconcilerSettings.model_construct(
        **{**ReconcilerSettings().model_dump(), "min_age_seconds": -1}
    )

    report = await make_pass(
        settings,
        store=site.store,
        images=ImageRepository(site.database.images),
        amqp=site.amqp,
        queues=site.queues,
        is_dry_run=True,
    )

    assert found(report) == {State.MISSING: 1}
    assert report.queued == 0
    async with open_publisher(site.amqp) as publisher:
        assert await publisher.depth(site.queues.work) == 0


async def test_late_event_completes_the_document_without_a_reading(site: Site) -> None:
    info = await site.upload("a.png")
    await site.reconcile()
    milliseconds = round(info.stored_at.timestamp() * 1000)  # as listed; MinIO's has nanoseconds
    real = f"{milliseconds * 1_000_000 + 1:X}"
    body = stored_notification(site.store.bucket, info, sequencer=real)
    body = body.replace(b'"userIdentity": {}', b'"userIdentity": {"principalId": "anna"}')

    async with site.consuming() as settlements:
        await site.document("a.png")
        await site.publish(body)
        assert await settlements.until(2) == ["predicted", "duplicate"]

    document = await site.document("a.png")
    assert document["uploaded_by"] == "anna"
    assert document["sequencer"] == real
    assert len(site.ocr_api.seen) == 1


async def test_overwritten_object_without_event_is_read_again(site: Site) -> None:
    await site.upload("a.png", b"first")
    await site.reconcile()
    async with site.consuming():
        await site.document("a.png")
        second = await site.upload("a.png", b"second")
        assert found(await site.reconcile()) == {State.CHANGED: 1}
        await site.document("a.png", etag=second.etag, status="predicted")


async def test_same_bytes_from_another_source_are_noticed(site: Site) -> None:
    await site.upload("a.png", provenance=Provenance("http://one.test/"))
    await site.reconcile()
    async with site.consuming():
        await site.document("a.png")
        await site.upload("a.png", provenance=Provenance("http://two.test/"))
        assert found(await site.reconcile()) == {State.CHANGED: 1}
        await site.document("a.png", **{"sources.url": "http://two.test/"})
        assert found(await site.reconcile()) == {State.IN_ORDER: 1}

    assert len(site.ocr_api.seen) == 1


async def test_restored_object_older_than_its_removal_is_indexed(site: Site) -> None:
    later = datetime.now(tz=UTC) + timedelta(hours=1)
    gone = removed_notification(
        site.store.bucket, "a.png", sequencer=sequencer_at(later), occurred_at=later
    )
    async with site.consuming():
        await site.publish(gone)
        await site.document("a.png", status="removed")
        assert (await site.upload("a.png")).stored_at < later
        assert found(await site.reconcile(min_age=-7200)) == {State.CHANGED: 1}
        await site.document("a.png", status="predicted")


async def test_document_whose_object_is_gone_becomes_removed(site: Site) -> None:
    await site.upload("a.png", provenance=Provenance("http://a.test/", "b", "text"))
    await site.reconcile()
    async with site.consuming():
        await site.document("a.png", status="predicted")
        await site.store.delete("a.png")  # no event: this bucket does not notify
        assert found(await site.reconcile()) == {State.GONE: 1}
        document = await site.document("a.png", status="removed")

    assert document["prediction"] is None
    assert document["annotation"] is None
    assert document["sources"][0]["url"] == "http://a.test/"
    assert found(await site.reconcile()) == {State.REMOVED: 1}


async def test_queued_removal_does_not_undo_a_later_upload(site: Site) -> None:
    await site.upload("a.png", b"first")
    await site.reconcile()
    async with site.consuming() as settlements:
        await site.document("a.png", status="predicted")
        await settlements.until(1)
    await site.store.delete("a.png")
    assert (await site.reconcile()).queued == 1  # waits in the queue
    info = await site.upload("a.png", b"second")
    upload = stored_notification(site.store.bucket, info, sequencer=sequencer_at(info.stored_at))

    await site.publish(upload)
    async with site.consuming() as settlements:
        await settlements.until(2)
        assert (await site.document("a.png"))["status"] == "predicted"
        await site.publish(
            removed_notification(
                site.store.bucket,
                "a.png",
                sequencer=sequencer_at(info.stored_at - timedelta(seconds=1)),
                occurred_at=datetime.now(tz=UTC),
            )
        )
        assert (await settlements.until(3))[-1] == "stale"
    assert (await site.document("a.png"))["etag"] == info.etag


async def test_pass_only_counts_if_too_much_is_parked(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "MOST_PARKED", 1)
    info = await site.upload("parked.png")
    await site.upload("without an event.png")
    body = stored_notification(site.store.bucket, info, sequencer=sequencer_at(info.stored_at))
    async with open_publisher(site.amqp) as publisher:
        await publisher.publish(body, queue=site.queues.parked, headers={CODE_HEADER: "ocr_failed"})

    report = await site.reconcile()

    assert (report.found[State.MISSING], report.queued) == (1, 0)


async def test_what_is_parked_is_not_queued_again(site: Site) -> None:
    info = await site.upload("parked.png")
    await site.upload("missing.png", b"other")
    body = stored_notification(site.store.bucket, info, sequencer=sequencer_at(info.stored_at))
    async with open_publisher(site.amqp) as publisher:
        await publisher.publish(b"not JSON", queue=site.queues.parked)
        await publisher.publish(body, queue=site.queues.parked, headers={CODE_HEADER: "ocr_failed"})

        assert found(await site.reconcile()) == {State.MISSING: 1, State.PARKED: 1}
        assert await publisher.depth(site.queues.parked) == 2

    await site.upload("parked.png", b"other bytes")
    assert found(await site.reconcile())[State.MISSING] == 2


async def test_object_whose_headers_cannot_be_read_holds_nothing_up(site: Site) -> None:
    store = site.store
    form = await store.client.generate_presigned_post(
        store.bucket, "odd.png", Conditions=[["starts-with", "$Content-Type", ""]]
    )
    fields = {**form["fields"], "Content-Type": "image/caf\xe9", "file": IMAGE.decode()}
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    body = "".join([*parts, "--b--\r\n"]).encode("latin-1")
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    async with (
        ClientSession() as session,
        session.post(form["url"], data=body, headers=headers) as response,
    ):
        assert response.status == 204
    await site.upload("z.png")

    first = await site.reconcile()
    async with site.consuming() as settlements:
        await site.document("z.png", status="predicted")
        assert sorted(await settlements.until(2)) == ["predicted", "unreadable_object"]

    assert found(first) == {State.MISSING: 2}
    assert found(await site.reconcile()) == {State.PARKED: 1, State.IN_ORDER: 1}


async def test_backfill_leaves_room_for_fresh_images(site: Site) -> None:
    for number in range(12):
        await site.upload(f"{number}.png", f"{number}".encode())
    deepest = 0

    async with open_publisher(site.amqp) as publisher:
        work = asyncio.create_task(site.reconcile(max_waiting=4, parallel=2))

        async def is_full() -> bool:
            return await publisher.depth(site.queues.work) >= 4

        await eventually(is_full)
        async with site.consuming():
            while not work.done():
                deepest = max(deepest, await publisher.depth(site.queues.work))
                await asyncio.wait([work], timeout=0.02)
            for number in range(12):
                await site.document(f"{number}.png", status="predicted")

    assert (await work).queued == 12
    assert deepest <= 5


async def test_many_pages_are_merged_without_a_gap(site: Site) -> None:
    """More documents than a page, of which one in a hundred has lost its object."""
    stored = await site.upload("0500.png")
    at = stored.stored_at
    await site.database.images.insert_missing(
        [
            {
                "_id": f"{site.store.bucket}/{number:04}.png",
                "key": f"{number:04}.png",
                "etag": stored.etag,
                "status": "removed" if number % 100 else "predicted",
                "sequencer": sequencer_at(at),
            }
            for number in range(2500)
        ]
    )

    report = await site.reconcile()

    assert found(report) == {State.GONE: 24, State.REMOVED: 2475, State.IN_ORDER: 1}
    assert (report.objects, report.documents) == (1, 2500)


async def test_parts_of_a_bucket_are_compared_one_by_one(site: Site) -> None:
    digits = ["00", "54", "55", "7f", "ff"]
    keys = [f"{prefix}{each}/{each}.png" for prefix in ("fetched/", "lines/") for each in digits]
    for key in [*keys, "a.png", "g.png", "é.png"]:
        await site.upload(key)
    await site.database.images.insert_missing(
        [
            {"_id": f"{site.store.bucket}/{key}", "key": key, "status": "removed"}
            for key in ("fetched/80/gone.png", "lines/aa/gone.png", "z.png", "\uffff.png")
        ]
    )

    reports = [await site.reconcile(part=BucketPart(part, 3)) for part in range(3)]

    assert [each.queued for each in reports] == [5, 4, 4]
    assert [each.found[State.REMOVED] for each in reports] == [3, 0, 1]


async def test_upload_is_queued_when_it_is_heard(site: Site, s3_settings: S3Settings) -> None:
    listening = asyncio.create_task(queue_uploads(s3_settings, site.amqp, queue=site.queues.work))
    key, fetched = "scans/é 1+2.png", "fetched/00/a.png"

    async def is_read() -> bool:
        await site.upload(fetched)
        await site.upload(key, provenance=Provenance("http://a.test/1", "b1"))
        return await site.database.images.count({"key": key, "status": "predicted"}) == 1

    async with site.consuming():
        await eventually(is_read)
        document = await site.document(key)
        listening.cancel()

    assert document["sources"][0]["url"] == "http://a.test/1"
    assert document["content_type"] == "image/png"
    assert await site.database.images.count({"key": fetched}) == 0
