"""Erase submitted texts and URLs about forgotten images; outcomes are kept.

URLs, which may give access to the image, and annotations are in ``fetches``, one document per item
with an outcome, in the rows of ``lists``, and in parked messages. The redacted URL is kept: it is
part of the proof.
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from services.common.adapters.fetched_items import FetchedItems
from services.common.adapters.mongo import Collection, Database, Document
from services.common.adapters.rabbitmq import dead_letters
from services.common.adapters.rabbitmq.dead_letters import ParkedMessage
from services.common.adapters.rabbitmq.retry_policy import Queues
from services.common.domain.batch import ListRow, pack_rows, unpack_rows
from services.common.domain.batch_item import BatchItem
from services.common.domain.redaction import REDACTED, beginning, may_be_kept_as
from services.common.download.urls import spellings
from services.common.runtime.settings import AmqpSettings


@dataclass(frozen=True)
class SubmittedItems:
    """Items of batches, and their URLs."""

    urls: frozenset[str]
    """Original URLs, or the stored ones if the original is unknown."""
    shown: frozenset[str]
    """The same, redacted."""
    items: Mapping[str, BatchItem]
    """Those in ``fetches``, by their ``_id``."""

    @property
    def all_urls(self) -> frozenset[str]:
        """Original and redacted URLs."""
        return self.urls | self.shown

    def has(self, url: str) -> bool:
        """Whether this is one of the URLs."""
        return _is_one_of(url, self.urls)


@dataclass
class Erased:
    """Report of what was searched and erased."""

    items: int = 0
    """Documents of ``fetches``."""
    rows: int = 0
    """Of lists."""
    pages_looked_at: int = 0
    """Of lists: all there are."""
    urls_blocked: int = 0
    """Original and redacted URLs that are blocked now."""
    images_blocked: int = 0
    """Images whose bytes are blocked now."""
    parked: dict[str, int] = field(default_factory=dict)
    """Dropped messages by queue."""


async def find_submitted(
    database: Database, what: str, *, hashes: AbstractSet[str], kept: AbstractSet[str]
) -> SubmittedItems:
    """Find what was submitted about images.

    Args:
        database: Where all of it is stored.
        what: A URL, or the key of an image.
        hashes: SHA-256 of the images' bytes, to include other URLs of them.
        kept: Source URLs of their documents.
    """
    given = spellings(what) if what.startswith(("http://", "https://")) else set()
    items = {each.id: each async for each in _items(database, given, hashes)}
    real = {each.url for each in items.values()}
    # Of two URLs that differ only in secrets, only the one that led here
    unknown = {each for each in kept if not any(may_be_kept_as(url, each) for url in real)}
    items |= {each.id: each async for each in _items(database, unknown - given, frozenset())}
    shown = {each.source_url or each.url for each in items.values()}
    urls = given | unknown | {each.url for each in items.values()}
    return SubmittedItems(frozenset(urls), frozenset(shown | kept), items)


async def erase_submitted(database: Database, submitted: SubmittedItems) -> Erased:
    """Erase what was submitted about images.

    Raises:
        DatabaseUnavailableError: MongoDB does not answer; repeat the call.
    """
    erased = Erased()
    for item in submitted.items.values():
        erased.items += await FetchedItems(database.fetches).erase(item)
    shown = {item.url: item.source_url for item in submitted.items.values()}

    def erase(row: ListRow) -> ListRow:
        return _without_text(row, shown) if submitted.has(row[1]) else row

    async for page in database.lists.find({}, fields={"rows": 1}):
        erased.pages_looked_at += 1
        erased.rows += await erase_rows(database.lists, page, erase)
    return erased


async def erase_rows(
    lists: Collection, page: Document | None, erase: Callable[[ListRow], ListRow]
) -> int:
    """Change rows of a page by compare-and-set: two people may erase rows of one page at once.

    Args:
        lists: Collection of the pages.
        page: As read, maybe a while ago.
        erase: Returns a row without what is erased of it.

    Returns:
        Number of changed rows.
    """
    while page is not None:
        rows = unpack_rows(page["rows"])
        kept = [erase(row) for row in rows]
        changed = sum(one != other for one, other in zip(kept, rows, strict=True))
        as_read = {"_id": page["_id"], "rows": page["rows"]}
        change = {"$set": {"rows": pack_rows(kept)}}
        if not changed or await lists.update_one(as_read, change):
            return changed
        page = await lists.find_one({"_id": page["_id"]})
    return 0


async def drop_parked(amqp: AmqpSettings, queues: Queues, submitted: SubmittedItems) -> int:
    """Drop parked messages of downloads, which hold URL and annotation; return their number."""

    def is_meant(message: ParkedMessage) -> bool:
        job = _job(message.body)
        url = job.get("url")
        is_ours = isinstance(url, str) and submitted.has(url)
        return is_ours or job.get("fetch_id") in submitted.items

    return len(await dead_letters.drop(amqp, queues, is_meant))


async def _items(
    database: Database, urls: AbstractSet[str], hashes: AbstractSet[str]
) -> AsyncIterator[BatchItem]:
    """Yield items by (original or redacted) URL or by hash."""
    starts = [_start(each) for each in sorted(urls) if beginning(each) != each]
    found = FetchedItems(database.fetches).matching(urls=urls, patterns=starts, hashes=hashes)
    async for item in found:
        if item.sha256 in hashes or _is_one_of(item.url, urls):
            yield item


def _start(url: str) -> str:
    """Return a pattern that matches a URL and its redacted form."""
    rest = "" if REDACTED in url else f".*={REDACTED}"
    return f"^{re.escape(beginning(url))}[?;#]{rest}"


def _is_one_of(url: str, urls: AbstractSet[str]) -> bool:
    return url in urls or any(
        (REDACTED in each and may_be_kept_as(url, each))
        or (REDACTED in url and may_be_kept_as(each, url))
        for each in urls
    )


def _without_text(row: ListRow, shown: Mapping[str, str | None]) -> ListRow:
    line, url, *_ = row
    return line, shown.get(url) or url, None, {}


def _job(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
