"""MongoDB's adapter against a real server of MongoDB's protocol."""

from datetime import UTC, datetime

import pytest
from pydantic import MongoDsn

from services.common.adapters.mongo import Database, open_database
from services.common.domain.errors import (
    DatabaseUnavailableError,
    DocumentRefusedError,
    DuplicateDocumentError,
)
from services.common.runtime.settings import MongoSettings


async def test_times_come_back_in_utc(database: Database) -> None:
    now = datetime(2026, 11, 24, 12, 0, 0, 123000, tzinfo=UTC)
    await database.images.insert({"_id": "raw/a", "stored_at": now})

    document = await database.images.find_one({"_id": "raw/a"})
    assert document == {"_id": "raw/a", "stored_at": now}


async def test_second_insert_is_a_duplicate(database: Database) -> None:
    await database.images.insert({"_id": "raw/a"})

    with pytest.raises(DuplicateDocumentError):
        await database.images.insert({"_id": "raw/a"})


async def test_insert_missing_leaves_what_is_there(database: Database) -> None:
    await database.fetches.insert({"_id": "b/1", "outcome": "stored"})
    await database.fetches.insert_missing([])
    await database.fetches.insert_missing(
        [{"_id": f"b/{n}", "outcome": "queued"} for n in (1, 2, 3)]
    )

    found = [each async for each in database.fetches.find({}, sort=[("_id", 1)])]
    assert [each["outcome"] for each in found] == ["stored", "queued", "queued"]


async def test_update_says_whether_it_matched(database: Database) -> None:
    await database.images.insert({"_id": "raw/a", "revision": 1})

    change = {"$set": {"x": 1}, "$inc": {"revision": 1}}
    assert await database.images.update_one({"_id": "raw/a", "revision": 1}, change)
    assert not await database.images.update_one({"_id": "raw/a", "revision": 1}, change)
    assert await database.images.update_many({}, {"$set": {"x": 2}}) == 1


async def test_indexes_can_be_created_again(database: Database) -> None:
    assert await database.create_indexes() == await database.create_indexes()


async def test_two_batches_cannot_have_one_idempotency_key(database: Database) -> None:
    await database.batches.insert({"_id": "b1", "idempotency_key": "k"})
    await database.batches.insert({"_id": "b2"})
    await database.batches.insert({"_id": "b3"})

    with pytest.raises(DuplicateDocumentError):
        await database.batches.insert({"_id": "b4", "idempotency_key": "k"})


async def test_missing_server_is_unavailable() -> None:
    settings = MongoSettings(url=MongoDsn("mongodb://127.0.0.1:9"), timeout_seconds=0.2)
    async with open_database(settings) as database:
        with pytest.raises(DatabaseUnavailableError):
            await database.check()


@pytest.mark.parametrize(
    "value",
    ["\udcff", 2**80, {1: "a key that is no text"}, object()],
    ids=type,
)
async def test_value_without_a_form_in_bson_is_refused(database: Database, value: object) -> None:
    with pytest.raises(DocumentRefusedError):
        await database.images.insert({"_id": "raw/a", "value": value})
