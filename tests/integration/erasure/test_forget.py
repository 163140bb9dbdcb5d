"""Removal on request: MinIO's own event erases the document, and the proof says so."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from services.common.adapters.forgotten import Forgotten
from services.common.adapters.mongo import Document
from services.common.adapters.object_store import sibling
from services.common.adapters.rabbitmq.dead_letters import peek
from services.common.adapters.rabbitmq.messaging import open_publisher
from services.common.domain.batch import ListRow, pack_rows, unpack_rows
from services.common.domain.image import ImageDocument
from services.common.domain.page import PageOfLine
from services.common.domain.provenance import Provenance, to_metadata
from services.erasure.removal import Target, find_targets, prove, remove
from services.erasure.submitted import erase_rows
from tests.support.forgetting import URL, Site, open_stopped_consumer
from tests.support.waiting import eventually


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


async def test_document_of_a_missing_object_can_be_forgotten(site: Site) -> None:
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


async def test_image_without_a_document_is_found_by_its_fetch(site: Site) -> None:
    await site.database.fetches.insert({"_id": "b1/1", "url": URL, "key": "fetched/x.png"})
    await site.upload("fetched/x.png", b"1", URL)

    [target] = await find_targets(site.store, site.database, URL)

    assert (target.key, target.is_stored) == ("fetched/x.png", True)


async def test_proof_of_an_image_without_document_has_its_source(site: Site) -> None:
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


async def test_unread_copies_go_too(site: Site) -> None:
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


async def test_two_who_erase_rows_of_one_page_do_not_restore_them(site: Site) -> None:
    rows: list[ListRow] = [(1, "http://a.test/1", "one", {}), (2, "http://a.test/2", "two", {})]
    lists = site.database.lists
    await lists.insert({"_id": "b1/0", "rows": pack_rows(rows)})
    as_read = await lists.find_one({"_id": "b1/0"})

    def erasing(line: int) -> Callable[[ListRow], ListRow]:
        return lambda row: (row[0], row[1], None, {}) if row[0] == line else row

    assert [await erase_rows(lists, as_read, erasing(line)) for line in (1, 2)] == [1, 1]

    page = await lists.find_one({"_id": "b1/0"})
    assert page is not None
    assert [row[2] for row in unpack_rows(page["rows"])] == [None, None]
