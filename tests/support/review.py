"""A review page to test, in this process, and images to look at."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from typing import Any

from aiohttp import ClientSession, CookieJar
from pydantic import HttpUrl

from infra.local.ports import pick_free_ports
from services.common.adapters.mongo import Database, Document, open_database
from services.common.adapters.object_store import ObjectStore, open_object_store, sibling
from services.common.adapters.rabbitmq.retry_policy import OCR_QUEUES, Queues
from services.common.domain.page import GroundTruth
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from services.label_studio.settings import LabelStudioSettings
from services.review.main import Configuration, run
from services.review.settings import ReviewSettings
from tests.support.images import line_image
from tests.support.pages import page_file
from tests.support.waiting import eventually

PAGE_KEY = "<b>é 1.png"
PAGE_TEXTS = ("first line", "second line", "third line")
NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def known(text: str, score: float, **changes: Any) -> Document:
    """Return the document of an image that was read."""
    key = changes.pop("key", f"{hashlib.sha256(text.encode()).hexdigest()}.png")
    prediction = {
        "text": text,
        "score": score,
        "engine": "rapidocr",
        "model_version": "1",
        "predicted_at": NOW,
        "duration_ms": 12.0,
    }
    return {
        "_id": f"raw/{key}",
        "bucket": "raw",
        "key": key,
        "etag": "e1",
        "size": 1000,
        "content_type": "image/png",
        "sha256": hashlib.sha256(key.encode("utf-8", "replace")).hexdigest(),
        "width": 300,
        "height": 80,
        "sources": [],
        "stored_at": NOW,
        "indexed_at": NOW,
        "annotation": None,
        "prediction": prediction,
        "error": None,
        "status": "predicted",
        "sequencer": "1",
        "revision": 1,
        **changes,
    }


@dataclass
class Site:
    """A running page and the servers behind it."""

    url: str
    database: Database
    store: ObjectStore

    async def add(self, *documents: Document, with_objects: bool = False) -> None:
        for document in documents:
            if with_objects:
                content = line_image(document["prediction"]["text"])
                etag = await self.store.write(
                    document["key"], content, content_type="image/png", metadata={}
                )
                document |= {"etag": etag, "sha256": hashlib.sha256(content).hexdigest()}
            await self.database.images.insert(document)

    async def document(self, image: str) -> Document:
        document = await self.database.images.find_one({"_id": image})
        assert document is not None
        return document

    def person(
        self, name: str = "ada", password: str = ""
    ) -> AbstractAsyncContextManager["Person"]:
        """Log in for the length of an ``async with`` block."""
        return open_person(self.url, name, password)


@dataclass
class Person:
    """A browser without a window: what it sees are pages, what it sends are their forms."""

    client: ClientSession
    token: str = ""

    async def see(self, path: str, *, status: int = 200) -> str:
        """Return a page as it is when its search is finished."""
        return await self.finish(await self.open(path, status=status))

    async def open(self, path: str, *, status: int = 200) -> str:
        """Return the first answer of a page."""
        async with self.client.get(path) as response:
            html = await response.text()
            assert response.status == status, html
        self._keep_token(html)
        return html

    async def finish(self, html: str) -> str:
        """Ask for the rest of a page's search, as its script does."""
        found = re.search(r'hx-get="([^"]+wait=true)"[^>]* hx-trigger="load', html)
        return await self.open(unescape(found[1])) if found else html

    async def send(self, path: str, fields: dict[str, str], *, status: int = 200) -> str:
        if not self.token:
            await self.see("/gallery")
        form = {"token": self.token, **fields}
        headers = {"HX-Request": "true"} if path.startswith("/queue/") else {}
        async with self.client.post(path, data=form, headers=headers) as response:
            html = await response.text()
            assert response.status == status, html
        return html

    async def do(self, html: str, action: str, text: str | None = None) -> str:
        """Press a key of the queue's page; return the next task."""
        fields = fields_of(html)
        given = fields.get("text", "") if text is None else text
        task = await self.send("/queue/answer", {**fields, "action": action, "text": given})
        return await self.finish(task)

    def _keep_token(self, html: str) -> None:
        if found := fields_of(html).get("token"):
            self.token = found


async def add_page(review: Site, *, is_transcribed: bool = False, **fields: Any) -> str:
    """Add a page with three lines and their images; return its ETag."""
    store = sibling(review.store, f"{review.store.bucket}-pages")
    with suppress(store.client.exceptions.BucketAlreadyOwnedByYou):
        await store.client.create_bucket(Bucket=store.bucket)
    etag = await store.write(PAGE_KEY, page_file(), content_type="image/png", metadata={})
    page_id, lines = f"{store.bucket}/{PAGE_KEY}", []
    for order, text in enumerate(PAGE_TEXTS):
        top = 100 + 90 * order
        quad = (100, top, 600, top, 600, top + 40, 100, top + 40)
        line = {"id": str(order), "key": f"lines/{order}.webp", "quad": quad, "order": order}
        lines.append({**line, "state": "current"})
        document = known(text, 0.5, key=line["key"], bucket=review.store.bucket)
        document["_id"] = f"{review.store.bucket}/{line['key']}"
        document["page"] = {"id": page_id, "line": line["id"], "quad": quad, "order": order}
        await review.add(document, with_objects=True)
    truth = GroundTruth(sha256="0" * 64, lines=()).to_mongo()
    said = {"lines": [], "ground_truth": truth} if is_transcribed else {"lines": lines}
    page: Document = {"_id": page_id, "bucket": store.bucket, "key": PAGE_KEY, "etag": etag}
    page |= {"status": "segmented", "width": 1500, "height": 800, "runs": [], "sources": []}
    page |= {"revision": 1, "sequencer": "0000000000000001"}
    await review.database.pages.insert({**page, "indexed_at": NOW, **said, **fields})
    return etag


@asynccontextmanager
async def open_person(url: str, name: str = "ada", password: str = "") -> AsyncIterator[Person]:
    """Log in at a review page for the length of an ``async with`` block."""
    async with ClientSession(url, cookie_jar=CookieJar(unsafe=True)) as client:
        data = {"name": name, "password": password, "then": "/queue"}
        async with client.post("/login", data=data, allow_redirects=False) as response:
            assert response.status == 303, await response.text()
        yield Person(client)


def fields_of(html: str) -> dict[str, str]:
    """Return the inputs of a page's forms."""
    found = re.findall(r'<input[^>]*? name="(\w+)"[^>]*? value="([^"]*)"', html)
    return {name: unescape(value) for name, value in reversed(found)}


def image_of(html: str) -> str:
    """Return which image a task is about; empty where there is none."""
    return fields_of(html.partition('id="task"')[2]).get("id", "")


OpenReview = Callable[..., AbstractAsyncContextManager[Site]]
"""``open_review`` with the servers of the test; it takes settings of the page."""


@asynccontextmanager
async def open_review(
    s3: S3Settings,
    mongo: MongoSettings,
    amqp: AmqpSettings,
    *,
    queues: Queues = OCR_QUEUES,
    fetcher_url: str = "http://127.0.0.1:9",
    label_studio: LabelStudioSettings | None = None,
    **changes: Any,
) -> AsyncIterator[Site]:
    """Run a review page for the length of an ``async with`` block."""
    port = pick_free_ports().fetcher_port
    settings = ReviewSettings(port=port, fetcher_url=HttpUrl(fetcher_url), **changes)
    config = Configuration(
        *(settings, s3, amqp, mongo, queues, label_studio or LabelStudioSettings()),
        fetch_queues=queues,
        page_queues=queues,
    )
    stop = asyncio.Event()
    service = asyncio.create_task(run(config, stop))
    url = f"http://127.0.0.1:{port}"
    async with open_database(mongo) as database, open_object_store(s3) as store:
        try:
            await _wait_ready(url, service)
            yield Site(url, database, store)
        finally:
            stop.set()
            await service


async def _wait_ready(url: str, service: "asyncio.Task[None]") -> None:
    async with ClientSession() as client:

        async def is_up() -> bool:
            if service.done():
                await service
            try:
                async with client.get(f"{url}/livez") as response:
                    return response.status == 200
            except OSError:
                return False

        await eventually(is_up)
