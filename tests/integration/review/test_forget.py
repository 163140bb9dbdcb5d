"""Forgetting an image on its page: the bytes and all that was read or said go, the proof stays."""

from collections.abc import AsyncIterator

import pytest

from services.common.runtime.settings import AmqpSettings
from services.provisioner.bucket import set_up_bucket
from tests.support.images import line_image
from tests.support.indexing import indexing, open_event_queues
from tests.support.ocr_api import scripted_ocr_api
from tests.support.review import OpenReview, Site
from tests.support.waiting import eventually

KEY = "private.png"


@pytest.fixture
async def site(
    review_with: OpenReview, notification_arn: str, amqp_settings: AmqpSettings
) -> AsyncIterator[Site]:
    """Run a page beside a consumer that takes the bucket's events."""
    async with (
        open_event_queues(amqp_settings) as queues,
        review_with(queues=queues) as site,
        scripted_ocr_api() as ocr_api,
    ):
        await set_up_bucket(site.store, notification_arn=notification_arn)
        async with indexing(
            ocr_api, store=site.store, database=site.database, amqp=amqp_settings, queues=queues
        ):
            yield site


async def test_forgotten_image_is_gone_with_its_annotations(site: Site) -> None:
    image = f"{site.store.bucket}/{KEY}"
    await site.store.write(KEY, line_image("private"), content_type="image/png", metadata={})
    where = {"_id": image, "status": "predicted"}
    etag = (await eventually(lambda: site.database.images.find_one(where)))["etag"]
    async with site.person("ada") as ada:
        for text in ("said first", "said then"):
            form = {"id": image, "etag": etag, "text": text, "quality": "ok"}
            await ada.send("/image/annotate", form)
        assert "not_confirmed" in await ada.send("/image/forget", {"id": image}, status=422)
        assert await site.store.head(KEY) is not None

        proof = await ada.send("/image/forget", {"id": image, "sure": "yes"})

        assert "Removed at" in proof
        assert "said" not in proof
        await ada.see(f"/content?id={image}&etag={etag}", status=404)
    assert await site.store.head(KEY) is None
    document = await site.document(image)
    assert document["status"] == "removed"
    assert (document["prediction"], document["annotation"]) == (None, None)
    assert document["annotation_history"] == []
    assert [each.key async for each in site.store.list()] == []
