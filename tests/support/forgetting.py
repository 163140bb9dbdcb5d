"""A bucket that notifies, a running consumer, and what of it is forgotten."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from services.common.adapters.object_store import sibling
from services.common.adapters.rabbitmq.retry_policy import Queues
from services.common.domain.batch import ListRow, pack_rows, unpack_rows
from services.common.domain.provenance import Provenance, to_metadata
from services.common.runtime.settings import AmqpSettings
from services.erasure.forgetting import ErasureReport, Forgetting
from tests.support.indexing import Indexed
from tests.support.ocr_api import ScriptedOcrApi

URL = "http://example.test/a%20b.png"
OTHER = "http://example.test/other.png"


@dataclass
class Site(Indexed):
    """A bucket that notifies, and a running consumer."""

    amqp: AmqpSettings
    queues: Queues
    fetch_queues: Queues
    ocr_api: ScriptedOcrApi

    async def upload(self, key: str, content: bytes, url: str | None = None) -> None:
        metadata = to_metadata(Provenance(url, "b1", None if url is None else "its text"))
        await self.store.write(key, content, content_type="image/png", metadata=metadata)

    async def report(self, what: str, *, may_come_again: bool = False) -> ErasureReport:
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


async def is_gone(site: Site, key: str) -> bool:
    return await site.store.head(key) is None


@asynccontextmanager
async def open_stopped_consumer(site: Site) -> AsyncIterator[Site]:
    """Give a bucket whose events are not consumed."""
    store = sibling(site.store, f"{site.store.bucket}-quiet")
    await store.client.create_bucket(Bucket=store.bucket)
    try:
        yield replace(site, store=store)
    finally:
        async for info in store.list():
            await store.delete(info.key)
        await store.client.delete_bucket(Bucket=store.bucket)
