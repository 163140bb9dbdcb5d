"""The consumer, ``forget`` and a replay are cut off between two writes, with real servers.

docs/reliability.md names what repairs each.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import aio_pika
import pytest
from aiohttp import web

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Collection, Document
from services.common.adapters.rabbitmq import dead_letters
from services.common.adapters.rabbitmq.messaging import open_publisher
from services.common.adapters.rabbitmq.retry_policy import Delivery, DeliveryOutcome
from services.common.adapters.synthetic_events import (
    removed_notification,
    sequencer_at,
    stored_notification,
)
from services.common.domain.annotations import to_annotation
from services.common.domain.provenance import Provenance
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from services.consumer.worker import Worker
from services.erasure import removal
from services.erasure.removal import find_targets, prove, remove
from services.reconciler.compare import State
from tests.support.cutting import cut_before
from tests.support.indexing import open_worker
from tests.support.reconciling import Site, found, open_site
from tests.support.waiting import eventually

pytestmark = pytest.mark.integration

KEY = "a.png"


@pytest.fixture
async def site(
    s3_settings: S3Settings, mongo_settings: MongoSettings, amqp_settings: AmqpSettings
) -> AsyncIterator[Site]:
    async with open_site(s3_settings, mongo_settings, amqp_settings) as site:
        yield site


@pytest.fixture
async def worker(site: Site) -> AsyncIterator[Worker]:
    async with open_worker(site.ocr_api, store=site.store, database=site.database) as worker:
        yield worker


async def store(site: Site) -> Delivery:
    """Store an image; return its event."""
    info = await site.upload(KEY, provenance=Provenance("http://a.test/", "b1", "from a list"))
    info = await site.store.head(KEY) or info
    sequencer = sequencer_at(info.stored_at)
    return Delivery(stored_notification(site.store.bucket, info, sequencer=sequencer))


async def delete(site: Site) -> Delivery:
    """Delete the image; return the event of that."""
    await site.store.delete(KEY)
    later = datetime.now(tz=UTC) + timedelta(seconds=1)
    return Delivery(
        removed_notification(
            site.store.bucket, KEY, sequencer=sequencer_at(later), occurred_at=later
        )
    )


async def say(site: Site, text: str) -> None:
    said = to_annotation(text, by="anna")
    await ImageRepository(site.database.images).annotate(
        f"{site.store.bucket}/{KEY}", said, overwrite=True
    )


async def test_event_whose_document_was_written_changes_nothing_again(
    site: Site, worker: Worker
) -> None:
    event = await store(site)
    assert await worker.handle(event) == "predicted"  # and is killed before it acknowledges
    before = await site.document(KEY)

    assert await worker.handle(event) == "duplicate"

    after = await site.document(KEY)
    changing = {"indexed_at", "revision"}
    assert {name: after[name] for name in after.keys() - changing} == {
        name: before[name] for name in before.keys() - changing
    }
    assert len(site.ocr_api.seen) == 1


async def test_removal_cut_between_tombstone_and_document(site: Site, worker: Worker) -> None:
    await worker.handle(await store(site))
    await say(site, "first")
    removal_event = await delete(site)

    with cut_before(ImageRepository, "_write"):
        await worker.handle(removal_event)
    assert (await site.document(KEY))["status"] == "predicted"
    await say(site, "said since")
    assert await worker.handle(removal_event) == "removed"

    assert (await site.document(KEY))["annotation"] is None
    assert await came_back(site, worker) == "said since"


async def test_return_of_an_image_cut_before_its_document(site: Site, worker: Worker) -> None:
    await worker.handle(await store(site))
    await say(site, "by hand")
    await worker.handle(await delete(site))
    event = await back(site)

    with cut_before(ImageRepository, "_write"):
        await worker.handle(event)
    assert (await site.document(KEY))["status"] == "removed"
    await worker.handle(event)

    assert (await site.document(KEY))["annotation"]["text"] == "by hand"


async def back(site: Site) -> Delivery:
    """Store the image again; return an event later than that of its removal."""
    await site.upload(KEY)
    info = await site.store.head(KEY)
    assert info is not None
    later = sequencer_at(datetime.now(tz=UTC) + timedelta(seconds=10))
    return Delivery(stored_notification(site.store.bucket, info, sequencer=later))


async def came_back(site: Site, worker: Worker) -> str | None:
    await worker.handle(await back(site))
    annotation: Document | None = (await site.document(KEY))["annotation"]
    return None if annotation is None else str(annotation["text"])


@pytest.mark.parametrize("repaired_by", ["reconciler", "command"])
async def test_forget_cut_between_object_and_notification(
    site: Site, worker: Worker, repaired_by: str
) -> None:
    await worker.handle(await store(site))
    await say(site, "private")
    targets = await find_targets(site.store, site.database, KEY)
    with cut_before(Collection, "delete_many"):
        await forget(site)
    assert await site.store.head(KEY) is not None
    await site.store.delete(KEY)  # its event is lost: this bucket has no notifications
    with cut_before(removal, "open_publisher"):
        await forget(site)

    async with site.consuming():
        if repaired_by == "reconciler":
            assert found(await site.reconcile()) == {State.GONE: 1}
        else:
            await forget(site)
        [proof] = await prove(targets, site.store, site.database, wait_seconds=20)

    assert proof["removed_at"] is not None
    assert await site.database.tombstones.count({}) == 0
    assert await came_back(site, worker) is None


async def forget(site: Site) -> None:
    targets = await find_targets(site.store, site.database, KEY)
    await remove(
        targets, store=site.store, database=site.database, amqp=site.amqp, queues=site.queues
    )


async def test_replay_cut_before_its_message_is_dropped(site: Site) -> None:
    event = await store(site)
    async with open_publisher(site.amqp) as publisher:
        await publisher.publish(event.body, queue=site.queues.parked)
        with cut_before(aio_pika.IncomingMessage, "ack"):
            await replay(site)

        async def is_given_back() -> bool:
            return await publisher.depth(site.queues.parked) == 1

        await eventually(is_given_back)
        assert len(await replay(site)) == 1
        assert await publisher.depth(site.queues.parked) == 0
    async with site.consuming() as settlements:
        # Both may be in work at once
        assert set(await settlements.until(2)) <= {"duplicate", "predicted"}

    assert await site.database.images.count({}) == 1


async def replay(site: Site) -> list[dead_letters.ParkedMessage]:
    return await dead_letters.replay(site.amqp, site.queues, lambda _: True)


@pytest.fixture
def lost_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is lost before the first acknowledgement reaches RabbitMQ."""
    acknowledge = aio_pika.IncomingMessage.ack
    failures = [ConnectionError("lost")]

    async def ack(message: aio_pika.IncomingMessage, multiple: bool = False) -> None:  # noqa: FBT001, FBT002
        if failures:
            raise failures.pop()
        await acknowledge(message, multiple)

    monkeypatch.setattr(aio_pika.IncomingMessage, "ack", ack)


@pytest.mark.usefixtures("lost_acknowledgement")
async def test_connection_lost_between_document_and_acknowledgement(site: Site) -> None:
    event = await store(site)
    async with site.consuming() as settlements:
        await site.publish(event.body)
        await settlements.until(2)

    assert [outcome for outcome, _ in settlements.settled] == [
        DeliveryOutcome.LOST,
        DeliveryOutcome.ACKED,
    ]
    assert settlements.codes[1] == "duplicate"
    assert await site.database.images.count({"status": "predicted"}) == 1
    assert len(site.ocr_api.seen) == 1


@pytest.mark.usefixtures("lost_acknowledgement")
async def test_connection_lost_between_copy_and_acknowledgement(site: Site) -> None:
    event = await store(site)
    failures = [web.Response(status=500)]

    async def fail_once(image: bytes) -> web.Response:
        return failures.pop() if failures else await site.ocr_api.read_all(image)

    site.ocr_api.answer = fail_once
    async with site.consuming() as settlements:
        await site.publish(event.body)
        await settlements.until(3)

    outcomes = [outcome for outcome, _ in settlements.settled]
    assert outcomes == [DeliveryOutcome.LOST, DeliveryOutcome.ACKED, DeliveryOutcome.ACKED]
    assert await site.database.images.count({}) == 1
    assert (await site.document(KEY))["status"] == "predicted"
