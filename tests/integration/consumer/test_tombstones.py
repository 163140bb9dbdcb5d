"""Annotations come back with their bytes: on MinIO's own events, with the real consumer."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from services.common.adapters.forgotten import Forgotten, Tombstones
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Database, Document
from services.common.adapters.object_store import ObjectStore
from services.common.adapters.rabbitmq.messaging import open_publisher
from services.common.adapters.rabbitmq.retry_policy import Queues
from services.common.adapters.synthetic_events import INFERRED, ORIGIN_HEADER, removed_notification
from services.common.domain.annotation_history import Annotations
from services.common.domain.annotations import to_annotation
from services.common.domain.provenance import Provenance, to_metadata
from services.common.domain.records import Annotation
from services.common.runtime.settings import AmqpSettings
from services.erasure.removal import find_targets, prove, remove
from tests.factories import document
from tests.support.indexing import Start
from tests.support.waiting import eventually


@dataclass
class Site:
    """A bucket that notifies, and a running consumer."""

    store: ObjectStore
    database: Database
    amqp: AmqpSettings
    queues: Queues

    async def upload(self, content: bytes = b"1", annotation: str | None = None) -> Document:
        metadata = to_metadata(Provenance(batch_id="b1", annotation=annotation))
        etag = await self.store.write("a.png", content, content_type="image/png", metadata=metadata)
        return await self.document(status="predicted", etag=etag)

    async def say(self, text: str, by: str = "anna") -> None:
        said = to_annotation(text, by=by)
        await ImageRepository(self.database.images).annotate(self.id, said, overwrite=True)

    async def delete(self) -> None:
        await self.store.delete("a.png")
        await self.document(status="removed")

    async def lose(self) -> None:
        """Delete the object without an event."""
        await self.store.client.put_bucket_notification_configuration(
            Bucket=self.store.bucket, NotificationConfiguration={}
        )
        await self.store.delete("a.png")

    async def document(self, **fields: object) -> Document:
        return await eventually(lambda: self.database.images.find_one({"_id": self.id, **fields}))

    @property
    def id(self) -> str:
        return f"{self.store.bucket}/a.png"


@pytest.fixture
async def site(start: Start, amqp_settings: AmqpSettings, queues: Queues) -> Site:
    running = await start()
    return Site(running.store, running.database, amqp_settings, queues)


async def test_annotation_of_a_deleted_image_comes_back_with_it(site: Site) -> None:
    await site.upload(annotation="from a list")
    await site.say("said first")
    await site.say("said then", by="bob")
    before = await site.document()

    await site.delete()
    removed = await site.document()
    await site.upload()

    assert (removed["annotation"], removed["annotation_history"]) == (None, [])
    after = await site.document()
    assert after["annotation"] == before["annotation"]
    assert after["annotation_history"] == before["annotation_history"]
    assert after["removed_at"] is None
    kept = await site.database.tombstones.find_one({"document": site.id})
    assert kept is not None
    assert timedelta(days=29) < kept["expires_at"] - datetime.now(tz=UTC) <= timedelta(days=30)


async def test_double_reading_comes_back_with_its_image(site: Site) -> None:
    await site.upload()
    images = ImageRepository(site.database.images)
    for text, by in (("one", "anna"), ("other", "bob")):
        await images.annotate(site.id, to_annotation(text, by=by), second_share=1.0)
    before = (await site.document())["double_reading"]

    await site.delete()
    await site.upload()

    assert (await site.document())["double_reading"] == before
    assert before["state"] == "different"


async def test_other_bytes_do_not_get_the_annotation(site: Site) -> None:
    await site.upload(b"1")
    await site.say("of the first")
    await site.delete()

    assert (await site.upload(b"2"))["annotation"] is None
    await site.say("of the second")
    back = await site.upload(b"1")  # replaced, not deleted
    assert back["annotation"]["text"] == "of the first"
    assert (await site.upload(b"2"))["annotation"]["text"] == "of the second"


async def test_list_that_brings_another_text_wins_over_an_older_list(site: Site) -> None:
    await site.upload(annotation="wrong")
    await site.delete()

    again = await site.upload(annotation="right")

    assert again["annotation"]["text"] == "right"
    assert [each["text"] for each in again["annotation_history"]] == ["wrong"]


async def test_removal_that_was_only_inferred_keeps_it_for_good(site: Site) -> None:
    document = await site.upload()
    await site.say("by hand")
    body = removed_notification(
        site.store.bucket,
        "a.png",
        sequencer=(await site.document())["sequencer"],
        occurred_at=datetime.now(tz=UTC),
    )
    await site.lose()
    async with open_publisher(site.amqp) as publisher:
        headers = {ORIGIN_HEADER: INFERRED}
        await publisher.publish(body, queue=site.queues.work, headers=headers)
    await site.document(status="removed")

    kept = await site.database.tombstones.find_one({"document": site.id})

    assert kept is not None
    assert (kept["annotation"]["text"], kept["sha256"]) == ("by hand", document["sha256"])
    assert kept["expires_at"] is None


async def test_later_state_of_an_annotation_stays(site: Site) -> None:
    tombstones = Tombstones(
        site.database.tombstones, timedelta(days=1), Forgotten(site.database.forgotten)
    )
    early = document(_id=site.id, sha256="ff", annotation={"text": "early"}, revision=2)
    late = early.having(annotation=Annotation(text="late"), revision=3)

    for each in (late, early, late):
        await tombstones.keep(each, is_inferred=False)

    kept = await tombstones.find(site.id, "ff")
    assert kept.current == late.annotation
    assert await tombstones.find(site.id, "ee") == Annotations()


async def test_what_has_expired_does_not_come_back(site: Site) -> None:
    tombstones = Tombstones(
        site.database.tombstones, timedelta(microseconds=1), Forgotten(site.database.forgotten)
    )
    image = document(_id=site.id, sha256="ff", annotation={"text": "x"})
    await tombstones.keep(image, is_inferred=False)

    assert await tombstones.find(site.id, "ff") == Annotations()
    off = Tombstones(site.database.tombstones, timedelta(0), Forgotten(site.database.forgotten))
    await off.keep(image.having(sha256="ee"), is_inferred=False)
    assert await site.database.tombstones.count({"sha256": "ee"}) == 0


async def test_forgotten_annotation_does_not_come_back(site: Site) -> None:
    await site.upload()
    await site.say("before")
    await site.delete()
    await site.upload()
    copy = {"_id": "x", "document": "raw/copy.png", "sha256": (await site.document())["sha256"]}
    await site.database.tombstones.insert(copy)
    targets = await find_targets(site.store, site.database, "a.png")

    await remove(
        targets, store=site.store, database=site.database, amqp=site.amqp, queues=site.queues
    )
    [proof] = await prove(targets, site.store, site.database, wait_seconds=20)

    assert proof["removed_at"] is not None
    assert await site.database.tombstones.count({}) == 0
    assert (await site.upload())["annotation"] is None
