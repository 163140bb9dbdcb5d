"""What was submitted about images that are to be forgotten: its text goes, its outcome stays.

A list holds URLs, which may be keys to the image, and annotations, which say what is in it. They
are in ``fetches``, one document for each item with an outcome, in the packed rows of ``lists``, and
in messages that gave up. The URL stays without its secrets: it is part of the proof.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from services.common.adapters.mongo import Database, Document
from services.common.adapters.rabbitmq import parking
from services.common.adapters.rabbitmq.parking import ParkedMessage
from services.common.adapters.rabbitmq.settlement import Queues
from services.common.domain.list_rows import ListRow, pack_rows, unpack_rows
from services.common.domain.redaction import REDACTED, beginning, may_be_kept_as
from services.common.download.urls import spellings
from services.common.runtime.settings import AmqpSettings

FIELDS = {"url": 1, "source_url": 1, "sha256": 1}


@dataclass(frozen=True)
class Submitted:
    """Items of batches, and the URLs that they are about."""

    urls: frozenset[str]
    """Real ones, and as they were kept where the real one is not known."""
    shown: frozenset[str]
    """The same without their secrets."""
    items: Mapping[str, Document]
    """Those in ``fetches``, by their ``_id``."""

    @property
    def all_urls(self) -> frozenset[str]:
        """URLs with and without their secrets."""
        return self.urls | self.shown

    def has(self, url: str) -> bool:
        """Whether this is one of the URLs."""
        return _is_one_of(url, self.urls)


@dataclass
class Erased:
    """What was looked at, and what was erased there."""

    items: int = 0
    """Documents of ``fetches``."""
    rows: int = 0
    """Of lists."""
    pages_looked_at: int = 0
    """Of lists: all there are."""
    urls_blocked: int = 0
    """URLs, with and without secrets, that the fetcher refuses from now on."""
    images_blocked: int = 0
    """Images whose bytes are refused from now on, whichever way they come."""
    parked: dict[str, int] = field(default_factory=dict)
    """Messages dropped, by their queue."""


async def find_submitted(
    index: Database, what: str, *, hashes: AbstractSet[str], kept: AbstractSet[str]
) -> Submitted:
    """Return what was submitted about images.

    Args:
        index: Where it is.
        what: A URL, or the key of an image.
        hashes: SHA-256 of the images' bytes: also what led to them by another URL is meant.
        kept: Source URLs of their documents.

    Raises:
        IndexUnavailableError: MongoDB does not answer.
    """
    given = spellings(what) if what.startswith(("http://", "https://")) else set()
    items = {each["_id"]: each async for each in _items(index, given, hashes)}
    real = {each["url"] for each in items.values()}
    # Of two URLs that differ in their secrets alone, only the one that led here
    unknown = {each for each in kept if not any(may_be_kept_as(url, each) for url in real)}
    items |= {each["_id"]: each async for each in _items(index, unknown - given, frozenset())}
    shown = {each.get("source_url") or each["url"] for each in items.values()}
    urls = given | unknown | {each["url"] for each in items.values()}
    return Submitted(frozenset(urls), frozenset(shown | kept), items)


async def erase_submitted(index: Database, submitted: Submitted) -> Erased:
    """Erase what was submitted about images.

    Raises:
        IndexUnavailableError: MongoDB does not answer; the same may be done again.
    """
    erased = Erased()
    for item in submitted.items.values():
        gone: Document = {"annotation": None, "validators": None, "detail": None}
        gone["url"] = gone["source_url"] = item.get("source_url") or item["url"]
        erased.items += await index.fetches.update_one({"_id": item["_id"]}, {"$set": gone})
    shown = {item["url"]: item.get("source_url") for item in submitted.items.values()}
    async for page in index.lists.find({}, fields={"rows": 1}):
        erased.pages_looked_at += 1
        rows = unpack_rows(page["rows"])
        kept = [_without_text(row, shown) if submitted.has(row[1]) else row for row in rows]
        if kept != rows:
            erased.rows += sum(one != other for one, other in zip(kept, rows, strict=True))
            change = {"$set": {"rows": pack_rows(kept)}}
            await index.lists.update_one({"_id": page["_id"]}, change)
    return erased


async def drop_parked(amqp: AmqpSettings, queues: Queues, submitted: Submitted) -> int:
    """Drop messages of downloads that gave up: they hold URL and annotation. Return how many.

    Raises:
        BrokerUnavailableError: RabbitMQ does not answer.
    """

    def is_meant(message: ParkedMessage) -> bool:
        job = _job(message.body)
        url = job.get("url")
        is_ours = isinstance(url, str) and submitted.has(url)
        return is_ours or job.get("fetch_id") in submitted.items

    return len(await parking.drop(amqp, queues, is_meant))


async def _items(
    index: Database, urls: AbstractSet[str], hashes: AbstractSet[str]
) -> AsyncIterator[Document]:
    """Yield items of URLs, some of which are without their secrets, or with these bytes."""
    starts = [_start(each) for each in sorted(urls) if beginning(each) != each]
    either: list[Document] = [
        {"url": {"$in": sorted(urls)}},
        {"sha256": {"$in": sorted(hashes)}},
        *({"url": {"$regex": start}} for start in starts),
    ]
    async for item in index.fetches.find({"$or": either}, fields=FIELDS):
        if item.get("sha256") in hashes or _is_one_of(item["url"], urls):
            yield item


def _start(url: str) -> str:
    """Return a pattern of what may be the same URL, where one of both is without its secrets."""
    rest = "" if REDACTED in url else f".*={REDACTED}"
    return f"^{re.escape(beginning(url))}[?;#]{rest}"


def _is_one_of(url: str, urls: AbstractSet[str]) -> bool:
    return url in urls or any(
        (REDACTED in each and may_be_kept_as(url, each))
        or (REDACTED in url and may_be_kept_as(each, url))
        for each in urls
    )


def _without_text(row: ListRow, shown: Mapping[str, str | None]) -> ListRow:
    line, url, _ = row
    return line, shown.get(url) or url, None


def _job(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
