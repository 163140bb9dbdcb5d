"""Images in a real store with their documents, for tests of data sets."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from services.common.adapters.mongo import Database, Document, open_database
from services.common.adapters.object_store import ObjectStore, open_object_store
from services.common.runtime.settings import MongoSettings, S3Settings
from tests.support import commands
from tests.support.images import line_image
from tests.support.servers import set_environment

STORED_AT = datetime(2026, 11, 1, tzinfo=UTC)


def prediction(text: str, *, score: float = 0.95, version: str = "fake-1") -> Document:
    """Return what a model has read."""
    return {
        "text": text,
        "score": score,
        "engine": "fake",
        "model_version": version,
        "predicted_at": STORED_AT,
        "duration_ms": 1.0,
    }


def annotation(text: str, quality: str = "ok") -> Document:
    """Return what a person says."""
    return {"text": text, "quality": quality, "by": "ada", "at": STORED_AT}


class Collected:
    """Collected images, written without the pipeline."""

    def __init__(self, store: ObjectStore, database: Database) -> None:
        self.store = store
        self.database = database

    async def add(
        self,
        key: str,
        text: str,
        *,
        right: str | None = None,
        content: bytes | None = None,
        urls: tuple[str, ...] = (),
        **fields: Any,
    ) -> str:
        """Store an image that was read as ``text``; return its sha256."""
        image = line_image(f"{key} {text}", font_size=12) if content is None else content
        etag = await self.store.write(key, image, content_type="image/png", metadata={})
        sha256 = hashlib.sha256(image).hexdigest()
        document = {
            "_id": f"{self.store.bucket}/{key}",
            "bucket": self.store.bucket,
            "key": key,
            "etag": etag,
            "sha256": sha256,
            "status": "predicted",
            "stored_at": STORED_AT,
            "indexed_at": STORED_AT,
            "revision": 1,
            "sources": [{"url": url, "batch_id": "b", "fetched_at": STORED_AT} for url in urls],
            "prediction": prediction(text),
            "annotation": None if right is None else annotation(right),
            "error": None,
            "sequencer": "1",
        }
        await self.database.images.insert({**document, **fields})
        return sha256

    async def document(self, key: str) -> Document:
        """Return the document of a key."""
        found = await self.database.images.find_one({"_id": f"{self.store.bucket}/{key}"})
        assert found is not None
        return found

    async def set(self, key: str, **fields: object) -> None:
        """Change a document."""
        await self.database.images.update_one(
            {"_id": f"{self.store.bucket}/{key}"}, {"$set": dict(fields)}
        )


@asynccontextmanager
async def open_collected(
    s3: S3Settings, mongo: MongoSettings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Collected]:
    """Yield an empty collection that the commands find through their settings."""
    set_environment(monkeypatch, s3, mongo)
    async with open_object_store(s3) as store, open_database(mongo) as database:
        with suppress(store.client.exceptions.BucketAlreadyOwnedByYou):
            await store.client.create_bucket(Bucket=store.bucket)
        yield Collected(store, database)


async def docreco(*arguments: object) -> tuple[int, str]:
    """Run a command; return status and answer."""
    result = await commands.docreco(*arguments)
    return result.exit_code, result.stdout if result.exit_code in {0, 1} else result.output


async def answer(*arguments: object, status: int = 0) -> dict[str, Any]:
    """Run a command and return its answer for machines."""
    got, output = await docreco(*arguments, "--json")
    assert got == status, output
    told: dict[str, Any] = json.loads(output)
    return told
