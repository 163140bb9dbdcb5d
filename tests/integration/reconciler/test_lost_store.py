"""A bucket or a database that is empty or an older copy, as the reconciler finds it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pydantic import JsonValue

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Document
from services.common.adapters.rabbitmq.messaging import open_publisher
from services.common.domain.annotations import to_annotation
from services.common.domain.details import Details
from services.common.domain.provenance import FETCH_ID, PLACEHOLDER_SOURCES, Provenance, to_metadata
from services.fetcher.batches.item_repository import ItemRepository
from services.fetcher.jobs import FetchJob
from services.fetcher.sources.addresses import member_url
from services.reconciler.compare import State
from tests.support.reconciling import Site, found
from tests.support.waiting import eventually

COUNT = 100
FETCHED_AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


async def fill(site: Site, *, annotated: bool = True) -> None:
    """Store and index images, and annotate each by hand; to be called while consuming."""
    for number in range(COUNT):
        await put(site, number)
    await site.reconcile()
    await predicted(site, COUNT)
    for number in range(COUNT if annotated else 0):
        said = to_annotation(f"by hand {number}", by="anna")
        images = ImageRepository(site.database.images)
        await images.annotate(f"{site.store.bucket}/{number}.png", said, overwrite=True)


async def put(site: Site, number: int) -> None:
    origin = Provenance(f"http://a.test/{number}", "b1", f"from a list {number}", FETCHED_AT)
    await site.store.write(
        f"{number}.png",
        b"image %d" % number,
        content_type="image/png",
        metadata=to_metadata(origin),
    )


async def predicted(site: Site, count: int) -> None:
    async def enough() -> bool:
        return await site.database.images.count({"status": "predicted"}) >= count

    await eventually(enough)


async def empty_bucket(site: Site) -> None:
    """Give the store a new, empty bucket of the same name, as a lost disk does."""
    for number in range(COUNT):
        await site.store.delete(f"{number}.png")
    await site.store.client.delete_bucket(Bucket=site.store.bucket)
    await site.store.client.create_bucket(Bucket=site.store.bucket)


async def said_by_hand(site: Site) -> dict[str, str]:
    found = site.database.images.find({"annotation.by": "anna", "status": "predicted"})
    return {each["key"]: each["annotation"]["text"] async for each in found}


ALL = {f"{number}.png": f"by hand {number}" for number in range(COUNT)}


async def test_empty_bucket_erases_no_annotation(site: Site) -> None:
    async with site.consuming() as settlements:
        await fill(site)
        await empty_bucket(site)

        report = await site.reconcile()

        assert (report.found[State.GONE], report.queued, report.held) == (COUNT, 0, COUNT)
        assert await said_by_hand(site) == ALL
        for number in range(COUNT):
            await put(site, number)
        back = await site.reconcile()
        assert (back.queued, back.held) == (COUNT, 0)
        await settlements.until(2 * COUNT)
        assert await said_by_hand(site) == ALL
        assert found(await site.reconcile()) == {State.IN_ORDER: COUNT}


async def test_annotations_come_back_even_where_a_person_allowed_it(site: Site) -> None:
    async with site.consuming() as settlements:
        await fill(site)
        await empty_bucket(site)

        report = await site.reconcile(allows_gone=True)

        assert (report.queued, report.held) == (COUNT, 0)
        await settlements.until(2 * COUNT)
        assert await site.database.images.count({"status": "removed", "annotation": None}) == COUNT
        kept = await site.database.tombstones.find_one({})
        assert kept is not None
        assert kept["expires_at"] is not None  # a person has said so
        for number in range(COUNT):
            await put(site, number)
        await site.reconcile()
        await settlements.until(3 * COUNT)
        assert await said_by_hand(site) == ALL


async def test_empty_database_is_rebuilt_from_the_objects(site: Site) -> None:
    async with site.consuming():
        await fill(site, annotated=False)
        before = await documents(site)
        await site.database.images.delete_many({})

        report = await site.reconcile()

        assert (report.queued, report.held) == (COUNT, 0)
        await predicted(site, COUNT)
        assert await documents(site) == before


async def test_sources_are_rebuilt_with_what_lists_said(site: Site) -> None:
    items = ItemRepository(site.database.fetches)
    small: dict[str, JsonValue] = {"n": 1, "x": 1.5, "tags": ["é"]}
    at = datetime.now(UTC)
    for number, metadata in enumerate((small, {**small, "long": "é" * 3000})):
        details = Details("g1", "train", "CC0", metadata)
        url, text = member_url("submitted:0/a.zip", f"{number}.png"), f"text {number}"
        job = FetchJob(f"b1/{number}", "b1", url, text, 0, "archive", "scans", details, "ada")
        origin = Provenance(None, "b1", text, at, job.fetch_id, "archive", "scans", job.name)
        headers = to_metadata(replace(origin, details=details, by="ada"))
        assert (FETCH_ID in headers) is (number == 1)
        if number == 1:
            await items.queue([job])
        key = f"fetched/00/{number}.png"
        await site.store.write(key, b"%d" % number, content_type="image/png", metadata=headers)
    many = [f"http://a.test/{number}" for number in range(PLACEHOLDER_SOURCES + 1)]
    for number, url in enumerate(many):
        item = {"_id": f"b2/{number}", "batch_id": "b2", "url": url, "key": "fetched/00/0.png"}
        await site.database.fetches.insert({**item, "finished_at": at - timedelta(hours=1)})

    async with site.consuming():
        for _ in range(2):
            await site.reconcile()
            await predicted(site, 2)
            first, second = [await site.document(f"fetched/00/{number}.png") for number in (0, 1)]
            assert [each.get("url") for each in first["sources"][:-1]] == many
            assert first["placeholder"]
            for number, source in enumerate((first["sources"][-1], *second["sources"])):
                assert source["metadata"].items() >= small.items()
                said = [source[each] for each in ("group", "split", "licence", "name", "by")]
                assert said == ["g1", "train", "CC0", f"{number}.png", "ada"]
            assert second["sources"][0]["metadata"]["long"] == "é" * 3000
            assert second["annotation"]["text"] == "text 1"
            await site.database.images.delete_many({})


async def test_older_database_gets_what_is_missing_and_keeps_its_own(site: Site) -> None:
    async with site.consuming():
        await fill(site)
        newer = [f"{site.store.bucket}/{number}.png" for number in range(40)]
        await site.database.images.delete_many({"_id": {"$in": newer}})

        assert (await site.reconcile()).queued == len(newer)

        await predicted(site, COUNT)
        assert len(await said_by_hand(site)) == COUNT - len(newer)
        again = await site.document("0.png")
        assert again["annotation"]["text"] == "from a list 0"


async def test_few_removals_are_queued_by_themselves(site: Site) -> None:
    async with site.consuming():
        await fill(site, annotated=False)
        for number in range(5):
            await site.store.delete(f"{number}.png")

        report = await site.reconcile()

        assert (report.queued, report.held) == (5, 0)
        await site.document("4.png", status="removed")


async def test_one_more_than_a_few_is_held_and_the_rest_goes_on(site: Site) -> None:
    async with site.consuming():
        await fill(site, annotated=False)
        for number in range(6):
            await site.store.delete(f"{number}.png")
        await site.upload("new.png", b"new")

        report = await site.reconcile()

        assert (report.queued, report.held) == (1, 6)
        await site.document("new.png", status="predicted")
    async with open_publisher(site.amqp) as publisher:
        assert await publisher.depth(site.queues.work) == 0


async def documents(site: Site) -> dict[str, Document]:
    """Return what the objects alone say, without what a second reading changes."""
    fields = ("sources", "annotation", "etag", "sha256", "content_type", "size", "status")
    found = site.database.images.find({})
    return {each["key"]: {name: each[name] for name in fields} async for each in found}
