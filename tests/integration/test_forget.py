"""Removal on request: MinIO's own event erases the document, and the proof says so."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from services.common.index import Database, Document, open_index
from services.common.messaging import open_publisher
from services.common.metadata import Provenance, to_metadata
from services.common.object_store import ObjectStore, open_object_store
from services.common.parking import look
from services.common.removal import Target, find_targets, prove, remove
from services.common.settings import AmqpSettings, MongoSettings, S3Settings
from services.common.settlement import Queues
from tests.support.indexing import indexing, open_event_queues
from tests.support.ocr_api import scripted_ocr_api
from tests.support.waiting import eventually

pytestmark = pytest.mark.integration

URL = "http://example.test/a%20b.png"


@dataclass
class Site:
    """A bucket that notifies, and a running consumer."""

    store: ObjectStore
    index: Database
    amqp: AmqpSettings
    queues: Queues

    async def upload(self, key: str, content: bytes, url: str | None = None) -> None:
        metadata = to_metadata(Provenance(url, "b1", None if url is None else "its text"))
        await self.store.write(key, content, content_type="image/png", metadata=metadata)

    async def document(self, key: str, **fields: object) -> Document:
        where = {"_id": f"{self.store.bucket}/{key}", **fields}
        return await eventually(lambda: self.index.images.find_one(where))

    async def forget(self, what: str) -> list[dict[str, object]]:
        targets = await find_targets(self.store, self.index, what)
        await remove(
            targets, store=self.store, index=self.index, amqp=self.amqp, queues=self.queues
        )
        return await prove(targets, self.store, self.index, wait_seconds=20)


@pytest.fixture
async def site(
    s3_settings: S3Settings,
    notification_arn: str,
    mongo_settings: MongoSettings,
    amqp_settings: AmqpSettings,
) -> AsyncIterator[Site]:
    async with (
        open_event_queues(amqp_settings) as queues,
        open_object_store(s3_settings) as store,
        open_index(mongo_settings) as index,
        scripted_ocr_api() as ocr_api,
    ):
        await store.set_up(notification_arn=notification_arn)
        async with indexing(ocr_api, store=store, index=index, amqp=amqp_settings, queues=queues):
            yield Site(store, index, amqp_settings, queues)


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

    [target] = await find_targets(site.store, site.index, "http://example.test/a.png?sig=s3cret")

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
    [target] = await find_targets(site.store, site.index, url)

    assert target.key == "two.png"


async def test_ledger_tells_apart_what_differs_in_its_secret_alone(site: Site) -> None:
    kept = "http://example.test/a.png?sig=REDACTED"
    for number in (1, 2):
        key, real = f"{number}.png", f"http://example.test/a.png?sig={number}"
        await site.upload(key, b"%d" % number, kept)
        await site.index.fetches.insert({"_id": key, "url": real, "key": key})
        await site.document(key, status="predicted")

    [target] = await find_targets(site.store, site.index, "http://example.test/a.png?sig=2")

    assert target.key == "2.png"


async def test_key_is_understood_with_and_without_its_bucket(site: Site) -> None:
    await site.upload("a.png", b"1")
    await site.document("a.png", status="predicted")

    for what in ("a.png", f"{site.store.bucket}/a.png"):
        [target] = await find_targets(site.store, site.index, what)
        assert target.key == "a.png"
    assert await find_targets(site.store, site.index, "b.png") == []


async def test_object_that_was_gone_already_is_removed_from_its_document(site: Site) -> None:
    await site.index.images.insert(
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
    await site.index.fetches.insert({"_id": "b1/1", "url": URL, "key": "fetched/x.png"})
    await site.upload("fetched/x.png", b"1", URL)

    [target] = await find_targets(site.store, site.index, URL)

    assert (target.key, target.is_stored) == ("fetched/x.png", True)


async def test_proof_names_the_source_of_an_image_that_had_no_document(site: Site) -> None:
    await site.upload("a.png", b"1", URL)
    await site.document("a.png", status="predicted")
    [known] = await find_targets(site.store, site.index, "a.png")
    early = Target(known.key, known.is_stored, None)  # as before its event came

    await remove([early], store=site.store, index=site.index, amqp=site.amqp, queues=site.queues)
    [proof] = await prove([early], site.store, site.index, wait_seconds=20)

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

    left = await look(site.amqp, site.queues, lambda message: message.code == "unknown")
    assert [message.subject for message in left] == ["raw/kept.png"]


async def test_proof_is_withheld_while_the_document_is_not_erased(site: Site) -> None:
    await site.index.images.insert(
        {"_id": f"{site.store.bucket}/a.png", "key": "a.png", "status": "predicted"}
    )
    targets = await find_targets(site.store, site.index, "a.png")

    [proof] = await prove(targets, site.store, site.index, wait_seconds=0)

    assert proof["removed_at"] is None
