"""Forgotten images and URLs stay away, however they come, until they are allowed again."""

import asyncio
import json
from hashlib import sha256
from io import BytesIO

import pytest
from aiohttp import web
from PIL import Image

from services.cli.repredict import job_for
from services.common.adapters.forgotten import Forgotten
from services.common.adapters.rabbitmq.dead_letters import peek
from services.common.adapters.rabbitmq.messaging import open_publisher
from services.common.domain.image import ImageDocument
from services.common.domain.normal_form import TRAINABLE, to_normal_file
from services.erasure.forgetting import Forgetting
from tests.support.forgetting import OTHER, URL, Site, is_gone, open_stopped_consumer
from tests.support.ocr_api import prediction
from tests.support.waiting import eventually, until


async def test_submitted_texts_are_erased_and_the_search_reported(site: Site) -> None:
    digest = sha256(b"1").hexdigest()
    kept = "http://example.test/c.png?sig=REDACTED"
    real = kept.replace("REDACTED", "s3cret")
    await site.add_item(URL, sha256=digest, key="one.png")
    await site.add_item(real, sha256=digest, key="one.png", source_url=kept)
    await site.add_item("http://example.test/not.png")
    await site.upload("one.png", b"1", URL)
    await site.document("one.png", status="predicted")
    job = {"fetch_id": "b1/7", "batch_id": "b1", "url": real, "annotation": "its text"}
    async with open_publisher(site.amqp) as publisher:
        for body in (job, {**job, "url": OTHER}):
            await publisher.publish(json.dumps(body).encode(), queue=site.fetch_queues.parked)

    report = await site.report(URL)

    assert report.is_done
    items = [each async for each in site.database.fetches.find({}, sort=[("_id", 1)])]
    assert [(each["url"], each["annotation"], each["group"]) for each in items] == [
        (URL, None, None),
        (kept, None, None),
        ("http://example.test/not.png", "its text", "7"),
    ]
    rows = [row[1:] for row in await site.rows() if row[0] != 99]
    not_meant = ("http://example.test/not.png", "its text", {"group": "7"})
    assert rows == [(URL, None, {}), (kept, None, {}), not_meant]
    assert (OTHER, "kept", {"group": "7"}) in [row[1:] for row in await site.rows()]
    left = await peek(site.amqp, site.fetch_queues, lambda _: True)
    assert [message.subject for message in left] == [OTHER]
    looked_at = report.to_answer()["looked_at"]
    assert (looked_at["items"], looked_at["rows"], looked_at["pages_looked_at"]) == (2, 2, 3)
    assert looked_at["parked"][site.fetch_queues.parked] == 1
    assert "exports" in " ".join(report.to_answer()["not_covered"])


async def test_forgotten_urls_stay_as_hashes_until_allowed_again(site: Site) -> None:
    kept = "http://example.test/c.png?sig=REDACTED"
    await site.add_item(kept.replace("REDACTED", "1"), source_url=kept)
    forgotten = Forgotten(site.database.forgotten)

    await site.report(kept.replace("REDACTED", "1"))

    assert [await forgotten.has_url(url) for url in (kept, OTHER)] == [True, False]
    assert "example" not in str([each async for each in site.database.forgotten.find({})])
    await site.report(kept.replace("REDACTED", "1"), may_come_again=True)
    assert not await forgotten.has_url(kept)


@pytest.mark.parametrize("key", ["api/again.png", "scan of a page.png", "one.png"])
async def test_forgotten_image_is_deleted_again_however_it_comes(site: Site, key: str) -> None:
    await site.upload("one.png", b"1", URL)
    await site.document("one.png", status="predicted")
    await site.report("one.png")

    await site.upload(key, b"1", OTHER)

    document = await site.document(key, status="removed", **{"error.code": "forgotten"})
    assert (document["prediction"], document["annotation"]) == (None, None)
    assert OTHER in [each["url"] for each in document["sources"]]
    await eventually(lambda: is_gone(site, key))
    assert len(site.ocr_api.seen) == 1
    assert sha256(b"1").hexdigest() in str(
        [each async for each in site.database.forgotten.find({})]
    )
    await site.report(key, may_come_again=True)
    await site.upload(key, b"1")
    assert (await site.document(key, status="predicted"))["error"] is None


async def test_image_that_is_read_while_it_is_forgotten_goes_too(site: Site) -> None:
    await site.upload("one.png", b"1", URL)
    await site.document("one.png", status="predicted")
    is_forgotten = asyncio.Event()

    async def answer_late(_: bytes) -> web.Response:
        await is_forgotten.wait()
        return web.json_response(prediction())

    site.ocr_api.answer = answer_late
    await site.upload("under a name.png", b"1")
    await until(lambda: len(site.ocr_api.seen) == 2)
    await site.report("one.png")
    is_forgotten.set()

    await site.document("under a name.png", **{"error.code": "forgotten"})
    await eventually(lambda: is_gone(site, "under a name.png"))


async def test_exported_copy_of_a_forgotten_image_stays_away(site: Site) -> None:
    transparent = BytesIO()
    Image.new("RGBA", (320, 48), (0, 0, 0, 7)).save(transparent, "PNG")
    rewritten = to_normal_file(transparent.getvalue(), readable=TRAINABLE).content
    assert rewritten != transparent.getvalue()
    await site.upload("one.png", transparent.getvalue(), URL)
    await site.document("one.png", status="predicted")
    await site.report(URL)

    await site.upload("exported.png", rewritten)

    await site.document("exported.png", **{"error.code": "forgotten"})
    await site.report(URL, may_come_again=True)
    assert await site.database.forgotten.count({}) == 0


async def test_nothing_is_read_or_kept_of_a_forgotten_image(site: Site) -> None:
    for key in ("read again.png", "deleted.png"):
        await site.upload(key, b"1", URL)
    document = await site.document("read again.png", status="predicted")
    await site.document("deleted.png", status="predicted")
    await Forgotten(site.database.forgotten).add(images={document["sha256"]: ()})

    async with open_publisher(site.amqp) as publisher:
        await publisher.publish(
            job_for(ImageDocument.model_validate(document)).body(), queue=site.queues.work
        )
    await site.store.delete("deleted.png")

    again = await site.document("read again.png", **{"error.code": "forgotten"})
    assert (again["prediction"], again["annotation"]) == (None, None)
    assert again.get("history", []) == []
    await eventually(lambda: is_gone(site, "read again.png"))
    await site.document("deleted.png", status="removed")
    assert await site.database.tombstones.count({}) == 0


async def test_bytes_of_an_unread_image_are_allowed_again(site: Site) -> None:
    async with open_stopped_consumer(site) as quiet:
        await quiet.store.write("a.png", b"1", content_type="image/png", metadata={})
        quiet_document = {"_id": f"{quiet.store.bucket}/a.png", "key": "a.png"}
        queues = (quiet.queues, quiet.fetch_queues)
        forgetting = Forgetting(quiet.store, quiet.database, quiet.amqp, *queues)
        found = await forgetting.find("a.png")
        await quiet.database.images.insert({**quiet_document, "status": "removed"})

        await forgetting.forget(found, wait_seconds=0)
        assert await Forgotten(site.database.forgotten).has_image(sha256(b"1").hexdigest())
        found = await forgetting.find("a.png")
        await forgetting.forget(found, wait_seconds=0, may_come_again=True)

        assert await site.database.forgotten.count({}) == 0
