"""Removal on request: MinIO's own event erases the document, and the proof says so."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from typing import Any

import pytest
from aiohttp import web
from PIL import Image

from services.common.adapters.forgotten import Forgotten
from services.common.adapters.mongo import Database, Document, open_database
from services.common.adapters.object_store import ObjectStore, open_object_store, sibling
from services.common.adapters.rabbitmq.dead_letters import peek
from services.common.adapters.rabbitmq.messaging import open_publisher
from services.common.adapters.rabbitmq.retry_policy import Queues
from services.common.domain.image import ImageDocument
from services.common.domain.jobs import job_for
from services.common.domain.list_rows import ListRow, pack_rows, unpack_rows
from services.common.domain.normal_form import TRAINABLE, to_normal_file
from services.common.domain.page import PageOfLine
from services.common.domain.provenance import Provenance, to_metadata
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from services.erasure.forgetting import Forgetting, Report
from services.erasure.removal import Target, find_targets, prove, remove
from services.provisioner.bucket import set_up_bucket
from tests.support.indexing import indexing, open_event_queues, open_queues
from tests.support.ocr_api import ScriptedOcrApi, prediction, scripted_ocr_api
from tests.support.waiting import eventually

URL = "http://example.test/a%20b.png"
OTHER = "http://example.test/other.png"


@dataclass
class Site:
    """A bucket that notifies, and a running consumer."""

    store: ObjectStore
    database: Database
    amqp: AmqpSettings
    queues: Queues
    fetch_queues: Queues
    ocr_api: ScriptedOcrApi

    async def upload(self, key: str, content: bytes, url: str | None = None) -> None:
        metadata = to_metadata(Provenance(url, "b1", None if url is None else "its text"))
        await self.store.write(key, content, content_type="image/png", metadata=metadata)

    async def document(self, key: str, **fields: object) -> Document:
        where = {"_id": f"{self.store.bucket}/{key}", **fields}
        return await eventually(lambda: self.database.images.find_one(where))

    async def report(self, what: str, *, may_come_again: bool = False) -> Report:
        queues = (self.queues, self.fetch_queues)
        forgetting = Forgetting(
            *(self.store, self.database, self.amqp, *queues, self.queues),
            pages_bucket=f"{self.store.bucket}-pages",
        )
        found = await forgetting.find(what)
        return await forgetting.forget(found, wait_seconds=20, may_come_again=may_come_again)

    async def forget(self, what: str) -> list[dict[str, Any]]:
        return (await self.report(what)).proofs

    async def add_item(self, url: str, **fields: object) -> None:
        """Add an item of a batch, in ``fetches`` and alone on a page of ``lists``."""
        number = await self.database.lists.count({})
        page = {"_id": f"b1/{number:06d}", "batch_id": "b1", "page": f"b1/{number:06d}"}
        said: dict[str, Any] = {"group": "7"}
        rows: list[ListRow] = [(number, url, "its text", said), (99, OTHER, "kept", said)]
        await self.database.lists.insert({**page, "rows": pack_rows(rows)})
        item = {"_id": f"b1/{number}", "url": url, "annotation": "its text", "source_url": url}
        item |= said
        await self.database.fetches.insert({**item, **fields})

    async def rows(self) -> list[ListRow]:
        pages = self.database.lists.find({}, sort=[("_id", 1)])
        return [row async for page in pages for row in unpack_rows(page["rows"])]


@pytest.fixture
async def site(
    s3_settings: S3Settings,
    notification_arn: str,
    mongo_settings: MongoSettings,
    amqp_settings: AmqpSettings,
) -> AsyncIterator[Site]:
    async with (
        open_event_queues(amqp_settings) as queues,
        open_queues(amqp_settings) as fetch_queues,
        open_object_store(s3_settings) as store,
        open_database(mongo_settings) as database,
        scripted_ocr_api() as ocr_api,
    ):
        await set_up_bucket(store, notification_arn=notification_arn)
        async with indexing(
            ocr_api, store=store, database=database, amqp=amqp_settings, queues=queues
        ):
            yield Site(store, database, amqp_settings, queues, fetch_queues, ocr_api)


async def test_all_that_came_from_a_url_is_erased_and_nothing_else(site: Site) -> None:
    await site.upload("one.png", b"1", URL)
    await site.upload("two.png", b"2", URL)
    await site.upload("other.png", b"3", "http://example.test/other.png")
    for key in ("one.png", "two.png", "other.png"):
        await site.document(key, status="predicted")

    proofs = await site.forget("http://example.test/a b.png")  # as a person may write it

    assert [proof["document"] for proof in proofs] == [
        f"{site.store.bucket}/one.png",
        f"{site.store.bucket}/two.png",
    ]
    for proof in proofs:
        assert proof["removed_at"] is not None
        assert proof["sources"] == [URL]
        assert (proof["prediction"], proof["annotation"]) == (None, None)
    assert await site.store.head("one.png") is None
    assert (await site.document("other.png"))["status"] == "predicted"


async def test_copies_of_the_same_bytes_go_too(site: Site) -> None:
    await site.upload("one.png", b"1", URL)
    await site.upload("api/copy.png", b"1")
    await site.upload("other.png", b"2")
    for key in ("one.png", "api/copy.png", "other.png"):
        await site.document(key, status="predicted")

    proofs = await site.forget(URL)

    assert {proof["document"] for proof in proofs} == {
        f"{site.store.bucket}/one.png",
        f"{site.store.bucket}/api/copy.png",
    }
    assert all(proof["removed_at"] is not None for proof in proofs)
    assert await site.store.head("api/copy.png") is None
    assert (await site.document("other.png"))["status"] == "predicted"


async def test_url_with_a_secret_is_found_by_what_was_kept_of_it(site: Site) -> None:
    await site.upload("signed.png", b"1", "http://example.test/a.png?sig=REDACTED")
    await site.upload("other.png", b"2", "http://example.test/b.png?sig=REDACTED")
    await site.document("signed.png", status="predicted")

    [target] = await find_targets(site.store, site.database, "http://example.test/a.png?sig=s3cret")

    assert target.key == "signed.png"


async def test_url_is_found_whichever_parameters_were_redacted(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FETCHER_REDACT_QUERY", "nothing-of-the-kind")
    await site.upload("one.png", b"1", "http://example.test/a.png?ticket=REDACTED&page=1")
    await site.upload("two.png", b"2", "http://example.test/a.png?ticket=REDACTED&page=2")
    for key in ("one.png", "two.png"):
        await site.document(key, status="predicted")

    url = "http://example.test/a.png?ticket=s3cret&page=2"
    [target] = await find_targets(site.store, site.database, url)

    assert target.key == "two.png"


async def test_items_that_differ_in_a_secret_alone_are_told_apart(site: Site) -> None:
    kept = "http://example.test/a.png?sig=REDACTED"
    for number in (1, 2):
        key, real = f"{number}.png", f"http://example.test/a.png?sig={number}"
        await site.upload(key, b"%d" % number, kept)
        await site.database.fetches.insert({"_id": key, "url": real, "key": key})
        await site.document(key, status="predicted")

    [target] = await find_targets(site.store, site.database, "http://example.test/a.png?sig=2")

    assert target.key == "2.png"


async def test_key_is_understood_with_and_without_its_bucket(site: Site) -> None:
    await site.upload("a.png", b"1")
    await site.document("a.png", status="predicted")

    for what in ("a.png", f"{site.store.bucket}/a.png"):
        [target] = await find_targets(site.store, site.database, what)
        assert target.key == "a.png"
    assert await find_targets(site.store, site.database, "b.png") == []


async def test_object_that_was_gone_already_is_removed_from_its_document(site: Site) -> None:
    await site.database.images.insert(
        {
            "_id": f"{site.store.bucket}/lost.png",
            "bucket": site.store.bucket,
            "key": "lost.png",
            "status": "predicted",
            "sources": [{"url": URL}],
            "annotation": {"text": "its text", "by": "anna"},
            "prediction": {"text": "x"},
            "sequencer": "18",
            "revision": 1,
        }
    )

    [proof] = await site.forget(URL)

    assert proof["removed_at"] is not None
    document = await site.document("lost.png", status="removed")
    assert (document["prediction"], document["annotation"]) == (None, None)


async def test_image_that_has_no_document_yet_is_found_through_its_fetch(site: Site) -> None:
    await site.database.fetches.insert({"_id": "b1/1", "url": URL, "key": "fetched/x.png"})
    await site.upload("fetched/x.png", b"1", URL)

    [target] = await find_targets(site.store, site.database, URL)

    assert (target.key, target.is_stored) == ("fetched/x.png", True)


async def test_proof_names_the_source_of_an_image_that_had_no_document(site: Site) -> None:
    await site.upload("a.png", b"1", URL)
    await site.document("a.png", status="predicted")
    [known] = await find_targets(site.store, site.database, "a.png")
    absent = ImageDocument.absent(known.document.id)
    early = Target(known.key, known.is_stored, absent)  # as before its event came

    await remove(
        [early], store=site.store, database=site.database, amqp=site.amqp, queues=site.queues
    )
    [proof] = await prove([early], site.store, site.database, wait_seconds=20)

    assert proof["sources"] == [URL]


async def test_every_version_of_an_object_goes(site: Site) -> None:
    await site.store.client.put_bucket_versioning(
        Bucket=site.store.bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    for content in (b"first", b"second"):
        await site.upload("a.png", content)
    await site.upload("a.png.other", b"not this one")
    await site.document("a.png", status="predicted")

    [proof] = await site.forget("a.png")

    assert proof["removed_at"] is not None
    left = await site.store.client.list_object_versions(Bucket=site.store.bucket)
    assert [each["Key"] for each in left["Versions"]] == ["a.png.other"]
    assert left.get("DeleteMarkers", []) == []
    await site.store.erase("a.png.other")


async def test_parked_message_about_it_goes_too(site: Site) -> None:
    await site.upload("a.png", b"1", URL)
    await site.document("a.png", status="predicted")
    ours = f'{{"Key": "{site.store.bucket}/a.png", "Records": []}}'.encode()
    async with open_publisher(site.amqp) as publisher:
        for body in (ours, b'{"Key": "raw/kept.png"}'):
            await publisher.publish(body, queue=site.queues.parked)

    await site.forget(URL)

    left = await peek(site.amqp, site.queues, lambda message: message.code == "unknown")
    assert [message.subject for message in left] == ["raw/kept.png"]


async def test_proof_is_withheld_while_the_document_is_not_erased(site: Site) -> None:
    await site.database.images.insert(
        {"_id": f"{site.store.bucket}/a.png", "key": "a.png", "status": "predicted"}
    )
    targets = await find_targets(site.store, site.database, "a.png")

    [proof] = await prove(targets, site.store, site.database, wait_seconds=0)

    assert proof["removed_at"] is None


async def test_copies_that_nobody_has_read_yet_go_too(site: Site) -> None:
    digest, other = sha256(b"1").hexdigest(), sha256(b"2").hexdigest()
    copies = [f"fetched/{digest[:2]}/{digest}.png", f"api/{digest}.jpg", f"uploads/{digest}.webp"]
    await site.add_item(URL, sha256=digest, key=copies[0])
    async with open_stopped_consumer(site) as quiet:
        for key in copies:
            await quiet.store.write(key, b"1", content_type="image/png", metadata={})
        await quiet.store.write(f"api/{other}.png", b"2", content_type="image/png", metadata={})
        misnamed = f"uploads/{digest}.gif"
        await quiet.store.write(misnamed, b"3", content_type="image/png", metadata={})

        targets = await find_targets(quiet.store, quiet.database, URL)
        await remove(targets, store=quiet.store, database=quiet.database, amqp=quiet.amqp)

        assert {each.key for each in targets} == set(copies)
        left = [info.key async for info in quiet.store.list()]
        assert left == [f"api/{other}.png", misnamed]


async def test_unread_copy_of_an_indexed_upload_goes_too(site: Site) -> None:
    digest = sha256(b"1").hexdigest()
    await site.upload("scan.png", b"1")
    await site.document("scan.png", status="predicted")
    copy = f"api/{digest}.png"
    await site.store.write(copy, b"1", content_type="image/png", metadata={})
    await site.database.images.delete_many({"_id": f"{site.store.bucket}/{copy}"})

    targets = await find_targets(site.store, site.database, "scan.png")

    assert copy in {each.key for each in targets}


async def test_submitted_text_is_erased_and_all_that_was_looked_at_is_told(site: Site) -> None:
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


async def test_forgotten_urls_are_kept_as_hashes_until_they_are_allowed(site: Site) -> None:
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
    await eventually(lambda: asyncio.sleep(0, result=len(site.ocr_api.seen) == 2))
    await site.report("one.png")
    is_forgotten.set()

    await site.document("under a name.png", **{"error.code": "forgotten"})
    await eventually(lambda: is_gone(site, "under a name.png"))


async def test_forgotten_image_that_an_export_has_rewritten_stays_away(site: Site) -> None:
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


async def test_bytes_of_an_image_that_nobody_had_read_are_allowed_again(site: Site) -> None:
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


async def is_gone(site: Site, key: str) -> bool:
    return await site.store.head(key) is None


@asynccontextmanager
async def open_stopped_consumer(site: Site) -> AsyncIterator[Site]:
    """Give a bucket whose events are not consumed."""
    store = ObjectStore(site.store.client, f"{site.store.bucket}-quiet")
    await store.client.create_bucket(Bucket=store.bucket)
    try:
        yield replace(site, store=store)
    finally:
        async for info in store.list():
            await store.delete(info.key)
        await store.client.delete_bucket(Bucket=store.bucket)


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("is_by_url", [False, True])
async def test_page_is_forgotten_with_its_lines(
    site: Site,
    is_by_url: bool,  # noqa: FBT001
    is_known: bool,  # noqa: FBT001
) -> None:
    """Also one that waits in the bucket without a document."""
    store = sibling(site.store, f"{site.store.bucket}-pages")
    await store.client.create_bucket(Bucket=store.bucket)
    metadata = to_metadata(Provenance(URL, kind="url"))
    await store.write("scan.png", b"a page", content_type="image/png", metadata=metadata)
    page_id = f"{store.bucket}/scan.png"
    digest = sha256(b"a page").hexdigest()
    document: Document = {
        "_id": page_id,
        "key": "scan.png",
        "status": "segmented",
        "sha256": digest,
    }
    document |= {"sources": [{"kind": "url", "url": URL}], "sequencer": "1"}
    await site.add_item(URL, key="scan.png", is_page=True)
    if is_known:
        await site.database.pages.insert(document)
    line = PageOfLine(id=page_id, line="0" * 16)
    await site.store.write(
        *("lines/ab/cd/0.webp", b"a line"),
        content_type="image/webp",
        metadata=to_metadata(Provenance(kind="page", page=line)),
    )
    await site.document("lines/ab/cd/0.webp", **{"page.id": page_id})

    async def segmenter() -> None:
        async def is_gone() -> bool:
            return await store.head("scan.png") is None

        await eventually(is_gone)
        now = datetime.now(tz=UTC)
        removal = {"status": "removed", "removed_at": now, "indexed_at": now}
        await site.database.pages.delete_many({"_id": page_id})
        await site.database.pages.insert({**document, **removal})

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(segmenter())
        proofs = await site.forget(URL if is_by_url else page_id)

    assert {proof["document"] for proof in proofs} == {
        page_id,
        f"{site.store.bucket}/lines/ab/cd/0.webp",
    }
    assert all(proof["removed_at"] for proof in proofs)
    assert proofs[0]["sources"] == [URL]
    assert await site.store.head("lines/ab/cd/0.webp") is None
    assert await Forgotten(site.database.forgotten).has_image(digest)
