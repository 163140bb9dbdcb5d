"""``docreco migrate`` of ``tests/support/older_store.jsonl``, which two earlier versions wrote."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bson import json_util

from services.common.adapters.fetched_items import FetchedItems
from services.common.adapters.mongo import Collection, Database, Document, Filter
from services.common.adapters.repository import schema_of
from services.common.domain.batch_item import BatchItem
from services.common.domain.errors import DocumentRefusedError
from services.common.domain.provenance import to_source
from services.common.runtime.settings import MongoSettings
from services.fetcher.batches.item_repository import ItemRepository
from services.migration import migration
from services.migration.migration import Migration, MigrationReport
from tests.factories import event
from tests.support.datasets import answer, docreco

STORE = Path(__file__).parents[2] / "support" / "older_store.jsonl"
OLD, NEW = "20261124T120000-old", "20261124T120000-new"
FOUND = {"batches": 2, "fetches": 3, "images": 14}
COLLECTIONS = tuple(FOUND)
CHANGED = {"sources", "sources_count", "revision", "annotation", "annotation_history"}
AWARE = json_util.JSONOptions(tz_aware=True)


@pytest.fixture
async def store(database: Database) -> Database:
    """A database with documents of earlier versions."""
    for line in STORE.read_text().splitlines():
        each = json_util.loads(line, json_options=AWARE)
        await getattr(database, each["collection"]).insert(each["document"])
    return database


async def all_of(database: Database) -> dict[str, list[Document]]:
    return {
        name: [each async for each in getattr(database, name).find({}, sort=[("_id", 1)])]
        for name in COLLECTIONS
    }


def counted(report: MigrationReport) -> dict[str, tuple[int, int]]:
    found = report.collections.items()
    return {name: (each.outdated, each.migrated) for name, each in found}


async def test_older_documents_get_todays_form(store: Database) -> None:
    before = await all_of(store)
    dry = await Migration(store, is_dry_run=True).run()
    assert counted(dry) == {name: (count, 0) for name, count in FOUND.items()}
    assert await all_of(store) == before

    report = await Migration(store).run()

    assert counted(report) == {name: (count, count) for name, count in FOUND.items()}
    assert not report.invalid
    after = await all_of(store)
    assert {each["_id"]: each["collection"] for each in after["batches"]} == {
        OLD: "default",
        NEW: "march",
    }
    fetches = [BatchItem.model_validate(each).provenance(None) for each in after["fetches"]]
    assert [(each.kind, each.collection, each.name, each.source_url) for each in fetches] == [
        ("url", "march", None, "http://a.test/a.png?token=REDACTED"),
        ("url", "default", None, "http://a.test/a.png"),
        ("archive", "default", "lines/é.png", "http://a.test/scans.zip#lines/%C3%A9.png"),
    ]
    sources = {each["key"]: each["sources"] for each in after["images"]}
    assert [summary(each) for each in sources["fetched/aa/new.png"]] == [
        ("url", "march", None, "http://a.test/a.png?token=REDACTED", NEW),
        ("url", "default", None, "http://b.test/a.png", "gone-batch"),
    ]
    (member,) = sources["fetched/bb/old.png"]
    assert summary(member)[:3] == ("archive", "default", "lines/é.png")
    for version in ("old", "new"):
        (api,) = sources[f"api/{version}.png"]
        assert summary(api) == ("api", "api", None, "http://c.test/c.png", None)
        (console,) = sources[f"{version} folder/line.png"]
        assert summary(console)[:3] == ("console", f"{version} folder", "line.png")
        (upload,) = sources[f"uploads/{int(version == 'new')}{'f' * 63}.png"]
        assert summary(upload)[:3] == ("upload", "uploads", None)
        assert len(sources[f"fetched/cc/{version}.png"]) == 1
    await check_form(store, before["images"])
    assert counted(await Migration(store).run()) == dict.fromkeys(COLLECTIONS, (0, 0))
    assert await all_of(store) == after


def summary(source: dict[str, Any]) -> tuple[Any, ...]:
    assert "fetched_at" not in source
    assert source["at"] is not None
    return tuple(source.get(name) for name in ("kind", "collection", "name", "url", "batch_id"))


async def check_form(store: Database, before: list[Document]) -> None:
    """Check that documents have all fields of today, and that people's work is as it was."""
    kept = {each["_id"]: each for each in before}
    async for image in store.images.find({}):
        assert set(schema_of("images")["required"]) <= image.keys()
        old = kept[image["_id"]]
        assert image["revision"] == old["revision"] + 1
        assert image["sources_count"] == len(image["sources"])
        unchanged = set(old) - CHANGED
        assert {name: image[name] for name in unchanged} == {name: old[name] for name in unchanged}
        for now, then in zip(
            (image["annotation"], *(image.get("annotation_history") or ())),
            (old["annotation"], *(old.get("annotation_history") or ())),
            strict=True,
        ):
            given = then is not None and then["by"].startswith("batch:")
            assert now == ({**then, "how": "given"} if given else then)


async def test_interrupted_migration_is_resumed(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "PAGE", 5)

    def interrupt(report: MigrationReport) -> None:
        if report.collections.get("images", migration.MigrationProgress()).migrated:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await Migration(store, on_progress=interrupt).run()
    first = await store.images.count({"sources.at": {"$exists": True}})
    assert first == 5

    report = await Migration(store).run()

    assert counted(report) == {"batches": (0, 0), "fetches": (0, 0), "images": (9, 9)}


async def test_invalid_document_stops_no_other(
    store: Database, mongo_settings: MongoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGO_URL", str(mongo_settings.url))
    monkeypatch.setenv("MONGO_DATABASE", mongo_settings.database)
    monkeypatch.setattr(migration, "MOST_INVALID", 4)
    await store.batches.insert({"_id": "b", "name": 5})
    await store.fetches.insert({"_id": "f/1", "batch_id": "b"})
    await store.fetches.insert({"_id": "f/2", "url": "http://a.test/a.png"})
    await store.fetches.insert({"_id": "f/3", "batch_id": ["b"], "url": 5})
    for number in range(3):
        await store.images.insert({"_id": f"raw/{number}", "key": "0", "sources": "none"})

    told = await answer("migrate", status=1)

    assert told["collections"] == {
        "batches": {"outdated": 3, "migrated": 2},
        "fetches": {"outdated": 6, "migrated": 3},
        "images": {"outdated": 17, "migrated": 14},
    }
    assert told["invalid"] == [
        "b: name: Input should be a valid string",
        "f/1: 'url' is missing",
        "f/2: 'batch_id' is missing",
        "f/3: batch_id: Input should be a valid string",
    ]
    assert told["invalid_count"] == 7
    status, output = await docreco("migrate", "--dry-run")
    assert (status, "nothing was changed" in output) == (0, True)


async def test_refused_write_stops_no_other(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Collection.update_one

    async def refuse(self: Collection, where: Filter, change: Document, **options: Any) -> bool:
        if where["_id"] in {OLD, "raw/api/old.png"}:
            raise DocumentRefusedError("too large")
        return await write(self, where, change, **options)

    async def refuse_all(*_: object) -> int:
        raise DocumentRefusedError("too large")

    monkeypatch.setattr(Collection, "update_one", refuse)
    monkeypatch.setattr(Collection, "update_each", refuse_all)

    report = await Migration(store).run()

    assert report.invalid == [f"{OLD}: too large", "raw/api/old.png: too large"]
    assert counted(report) == {"batches": (2, 1), "fetches": (3, 3), "images": (14, 13)}


async def test_same_url_is_unchanged_after_a_migration(store: Database) -> None:
    await Migration(store).run()

    earlier = await ItemRepository(store.fetches).last_success("http://a.test/a.png?token=s3cret")

    assert earlier is not None
    assert earlier.collection in {"default", "march"}


async def test_object_of_an_earlier_version_gets_its_collection(store: Database) -> None:
    url = "http://a.test/scans.zip#lines/%C3%A9.png"
    said = {"source-url": url, "batch-id": OLD, "fetched-at": "2026-11-24T12:00:00+00:00"}
    late = replace(event(), key="fetched/bb/old.png", metadata=said)
    items = FetchedItems(store.fetches)
    before = to_source(await items.provenance_of(late, is_last_attempt=False))
    await Migration(store).run()
    where = {"_id": "raw/fetched/bb/old.png"}
    assert before is not None
    await store.images.update_one(where, {"$set": {"sources": [before.to_mongo()]}})

    report = await Migration(store).run()

    assert counted(report)["images"] == (1, 1)
    known = to_source(await items.provenance_of(late, is_last_attempt=False))
    image = await store.images.find_one(where)
    assert image is not None
    assert known is not None
    assert [known.to_mongo()] == image["sources"]
    assert (known.kind, known.collection, known.name) == ("archive", "default", "lines/é.png")
