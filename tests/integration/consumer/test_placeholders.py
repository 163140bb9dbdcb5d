"""Hundreds of URLs of one picture: their events, with the real consumer, and what finds them."""

from collections.abc import AsyncIterator

import pytest

from services.common.adapters.collections import IMAGES
from services.common.adapters.rabbitmq.messaging import open_publisher
from services.common.adapters.repository import schema_of
from services.common.adapters.synthetic_events import sequencer_at, stored_notification
from services.common.domain import provenance
from services.common.domain.image import SOURCES_DISAGREE
from services.common.domain.objects import ObjectInfo
from services.common.domain.provenance import PLACEHOLDER_SOURCES, Provenance, to_metadata
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from services.erasure.removal import find_targets
from tests.support.reconciling import Site, open_site

KEY = "fetched/ab/ab.png"
MOST = PLACEHOLDER_SOURCES + 20


@pytest.fixture
async def site(
    s3_settings: S3Settings,
    mongo_settings: MongoSettings,
    amqp_settings: AmqpSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Site]:
    monkeypatch.setattr(provenance, "MOST_SOURCES", MOST)
    async with open_site(s3_settings, mongo_settings, amqp_settings) as site:
        await site.database.create_indexes()
        await site.database.require_schema(IMAGES, schema_of(IMAGES))
        yield site


def url_of(number: int) -> str:
    return f"http://a.test/{number}.png"


def event(site: Site, info: ObjectInfo, number: int, text: str) -> bytes:
    """Return the notification of the same object, written for another URL."""
    metadata = to_metadata(Provenance(url_of(number), "b1", text))
    told = ObjectInfo(info.key, info.etag, info.size, info.stored_at, "image/png", metadata)
    later = f"{int(sequencer_at(info.stored_at), 16) + number:X}"
    return stored_notification(site.store.bucket, told, sequencer=later)


async def lead_to_one_image(site: Site, count: int) -> None:
    info = await site.upload(KEY)
    async with site.consuming() as settlements:
        await site.publish(event(site, info, 0, "text 0"))
        await settlements.until(1)
        async with open_publisher(site.amqp) as publisher:
            for number in range(1, count):
                body = event(site, info, number, f"text {number}")
                await publisher.publish(body, queue=site.queues.work)
        await settlements.until(count)


async def test_hundreds_of_urls_of_one_image_make_a_placeholder(site: Site) -> None:
    count = MOST + 30

    await lead_to_one_image(site, count)

    document = await site.document(KEY)
    assert document["placeholder"] is True
    assert document["sources_count"] == count
    assert len({each["url"] for each in document["sources"]}) == MOST
    assert (document["annotation"], document["annotation_conflict"]) == (None, SOURCES_DISAGREE)
    assert len(document["annotation_history"]) <= 100
    assert len(site.ocr_api.seen) == 1


async def test_image_is_found_by_a_url_that_its_document_has_not(site: Site) -> None:
    await lead_to_one_image(site, MOST + 5)
    document = await site.document(KEY)
    kept = {each["url"] for each in document["sources"]}
    [beyond, *_] = [url_of(number) for number in range(MOST + 5) if url_of(number) not in kept]
    await site.database.fetches.insert({"_id": "b1/1", "url": beyond, "key": KEY})

    [target] = await find_targets(site.store, site.database, beyond)

    assert target.key == KEY
