"""Repository of the ``fetches`` collection: one document per batch item, with its outcome.

An item's document is created with its outcome or first failed attempt; until then its list has all
data. It is created earlier only if an object refers to it, or its job may be lost.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from services.common.adapters.mongo import Collection, Document, Filter
from services.common.adapters.repository import typed
from services.common.adapters.request_batcher import RequestBatcher
from services.common.domain.batch import NO_ITEMS, Counts, RetryScope, page_id
from services.common.domain.batch_item import BatchItem, ItemOutcome
from services.common.domain.details import FIELDS, Details
from services.common.domain.page import PageOfLine
from services.common.domain.records import to_milliseconds
from services.common.domain.redaction import hide_digest, hide_secrets
from services.common.download.responses import Validators
from services.fetcher.jobs import FetchJob
from services.fetcher.metrics import FETCHED_ITEMS, ItemCode
from services.fetcher.sources.addresses import is_submitted
from services.fetcher.sources.lists.rows import ListItem

GROUP_EVERY_SECONDS = 0.05
"""Minimum interval of batched reads and writes: a request to MongoDB costs as much as two or three
items in it, and no client waits for an item."""


@dataclass(frozen=True)
class ItemResult:
    """Result of an item; names as in its document."""

    outcome: ItemOutcome
    code: ItemCode
    detail: str | None = None
    is_transient: bool = False
    """Whether a retry may succeed."""
    http_status: int | None = None
    size_bytes: int | None = None
    duration_seconds: float | None = None
    sha256: str | None = None
    key: str | None = None
    validators: Validators | None = None
    """For the next conditional request."""

    def to_fields(self) -> Document:
        """Return the fields to store."""
        return {**vars(self), "validators": self.validators and asdict(self.validators)}


def fetch_id(batch_id: str, line: int) -> str:
    """``_id`` of an item's document; sorted like the list, and stable."""
    return f"{batch_id}/{line:010d}"


def row_of(item: BatchItem) -> ListItem:
    """Return an item of a list."""
    line = int(item.id.rpartition("/")[2])
    return ListItem(line, item.url, item.annotation, item.details)


@dataclass(frozen=True)
class _Change:
    """Change of a queued item."""

    job: FetchJob
    fields: Document
    attempts: int
    finished_at: datetime | None = None

    def to_document(self, source_url: str, details: Details) -> Document:
        """Return the new document of an item, redacted."""
        job = self.job
        item = BatchItem(
            id=job.fetch_id,
            batch_id=job.batch_id,
            page=page_id(job.batch_id, job.page),
            url=job.url,
            source_url=source_url,
            host=job.host,
            kind=job.source_kind,
            collection=job.collection,
            annotation=job.annotation,
            **details.to_fields() | {"name": details.name or job.name},
            by=job.by,
            outcome=ItemOutcome.QUEUED,
            attempts=self.attempts,
        )
        return item.to_mongo() | self.fields

    def to_update(self) -> tuple[Filter, Document]:
        """Return the update of an existing document."""
        return (
            {"_id": self.job.fetch_id, "outcome": ItemOutcome.QUEUED},
            {"$set": self.fields, "$inc": {"attempts": self.attempts}},
        )


class ItemRepository:
    """Reads and writes items; none is counted twice.

    Args:
        collection: The ``fetches`` collection.
        redact: Redacts URLs that are visible outside the fetcher.
    """

    def __init__(self, collection: Collection, redact: Callable[[str], str] = hide_secrets) -> None:
        self._collection = collection
        self._redact = redact
        self._find = RequestBatcher(self._find_each)
        self._write = RequestBatcher(self._write_each, every_seconds=GROUP_EVERY_SECONDS)
        self._last_success = RequestBatcher(
            self._last_success_each, every_seconds=GROUP_EVERY_SECONDS
        )

    async def find(self, item_id: str) -> BatchItem | None:
        """Return an item, or None."""
        return await self._find(item_id)

    async def _find_each(self, item_ids: Sequence[str]) -> Sequence[BatchItem | None]:
        found = self._collection.find({"_id": {"$in": list(set(item_ids))}})
        items = {item["_id"]: typed(BatchItem, item) async for item in found}
        return [items.get(item_id) for item_id in item_ids]

    async def finish(self, job: FetchJob, result: ItemResult, *, attempts: int = 1) -> bool:
        """Record the outcome of an item; return False if it was not queued."""
        finished_at = to_milliseconds(datetime.now(tz=UTC))
        fields = {**result.to_fields(), "finished_at": finished_at}
        is_first = await self._write(_Change(job, fields, attempts, finished_at))
        if is_first:
            FETCHED_ITEMS.labels(outcome=result.outcome, code=result.code).inc()
        return is_first

    async def note_attempt(
        self, job: FetchJob, *, code: str, detail: str, attempts: int = 1
    ) -> None:
        """Record a failed attempt before a retry; ``attempts``: 0 if it does not count as one."""
        await self._write(_Change(job, {"code": code, "detail": detail}, attempts))

    async def note_page(self, job: FetchJob, page: PageOfLine) -> None:
        """Store the page and position of a queued item."""
        await self._write(_Change(job, {"page_line": page.to_mongo()}, 0))

    async def queue(self, jobs: Sequence[FetchJob]) -> int:
        """Create documents of queued items; return the number of new ones."""
        nothing_yet = {"code": None, "detail": None}
        documents = [self._to_document(_Change(job, nothing_yet, 0)) for job in jobs]
        return len(documents) - len(await self._collection.insert_missing(documents))

    def source_url(self, item: BatchItem) -> str:
        """Return an item's redacted URL."""
        return item.source_url or self._shown(item.url)

    def _shown(self, url: str) -> str:
        return hide_digest(url) if is_submitted(url) else self._redact(url)

    def _to_document(self, change: _Change) -> Document:
        job = change.job
        return change.to_document(self._shown(job.url), job.details.redacted(self._redact))

    async def _write_each(self, changes: Sequence[_Change]) -> Sequence[bool]:
        """Write items; return which of them were queued."""
        documents = [self._to_document(each) for each in changes]
        present = await self._collection.insert_missing(documents)
        ours = [position not in present for position in range(len(changes))]
        repeated = sorted(present)
        matched = await self._collection.update_each(
            [changes[position].to_update() for position in repeated]
        )
        if matched == len(repeated):
            return [True] * len(changes)
        # Some were done already; check whether by an earlier attempt of this write
        items = await self._find_each([changes[position].job.fetch_id for position in repeated])
        for position, item in zip(repeated, items, strict=True):
            finished_at = changes[position].finished_at
            ours[position] = (
                item is not None and finished_at is not None and item.finished_at == finished_at
            )
        return ours

    async def last_success(self, url: str) -> BatchItem | None:
        """Return the last item that led from a URL to an object, or None."""
        return await self._last_success(url)

    async def _last_success_each(self, urls: Sequence[str]) -> Sequence[BatchItem | None]:
        own = ("_id", "batch_id", "key", "annotation", "sha256", "size_bytes", "validators")
        first = {each.lstrip("_"): {"$first": f"${each}"} for each in (*own, *FIELDS)}
        outcomes = [ItemOutcome.STORED, ItemOutcome.UNCHANGED]
        found = await self._collection.aggregate(
            [
                {"$match": {"url": {"$in": list(set(urls))}, "outcome": {"$in": outcomes}}},
                {"$sort": {"finished_at": -1}},
                {"$group": {"_id": "$url", **first}},
            ]
        )
        items = {each["_id"]: typed(BatchItem, {**each, "_id": each["id"]}) for each in found}
        return [items.get(url) for url in urls]

    async def count(self, page_ids: Sequence[str]) -> dict[str, Counts]:
        """Count the items of pages; empty pages have ``NO_ITEMS``."""
        groups = await self._collection.aggregate(
            [
                {"$match": {"page": {"$in": list(page_ids)}}},
                {
                    "$group": {
                        "_id": {"page": "$page", "outcome": "$outcome", "code": "$code"},
                        "items": {"$sum": 1},
                        "finished_at": {"$max": "$finished_at"},
                        "size_bytes": {"$sum": "$size_bytes"},
                    }
                },
            ]
        )
        counts = dict.fromkeys(page_ids, NO_ITEMS)
        for group in groups:
            counts[group["_id"]["page"]] += _of_group(group)
        return counts

    async def ids(self, page_ids: Sequence[str]) -> set[str]:
        """Return the ids of existing items of pages."""
        found = self._collection.find({"page": {"$in": list(page_ids)}}, fields={"_id": 1})
        return {item["_id"] async for item in found}

    async def of_batch(
        self, batch_id: str, *, outcome: ItemOutcome | None = None, after: str = "", limit: int = 0
    ) -> AsyncIterator[BatchItem]:
        """Yield items in the list's order, after the id ``after`` (``limit`` 0: no limit)."""
        where: Document = {"batch_id": batch_id}
        if outcome is not None:
            where["outcome"] = outcome
        if after:
            where["_id"] = {"$gt": after}
        async for item in self._collection.find(where, sort=[("_id", 1)], limit=limit):
            yield typed(BatchItem, item)

    async def count_queued(self, batch_id: str, *, up_to: str, most: int) -> int:
        """Count queued items up to an id, at most ``most``."""
        where = {"batch_id": batch_id, "outcome": ItemOutcome.QUEUED, "_id": {"$lte": up_to}}
        return await self._collection.count(where, most=most)

    async def requeue(self, batch_id: str, scope: RetryScope) -> int:
        """Requeue failed items; return their number."""
        where: Document = {"batch_id": batch_id, "outcome": ItemOutcome.FAILED}
        if scope is RetryScope.TRANSIENT:
            where["is_transient"] = True
        change = {"$set": {"outcome": ItemOutcome.QUEUED}, "$unset": {"finished_at": ""}}
        return await self._collection.update_many(where, change)

    async def cancel(self, batch_id: str) -> int:
        """Cancel queued items; return their number."""
        result = CANCELLED.to_fields() | {"finished_at": datetime.now(tz=UTC)}
        where = {"batch_id": batch_id, "outcome": ItemOutcome.QUEUED}
        cancelled = await self._collection.update_many(where, {"$set": result})
        FETCHED_ITEMS.labels(outcome=CANCELLED.outcome, code=CANCELLED.code).inc(cancelled)
        return cancelled


CANCELLED = ItemResult(ItemOutcome.CANCELLED, "cancelled", "the batch was cancelled")


def _of_group(group: Document) -> Counts:
    outcome, items = ItemOutcome(group["_id"]["outcome"]), group["items"]
    is_failure = outcome is ItemOutcome.FAILED
    return Counts(
        {**NO_ITEMS.by_outcome, outcome: items},
        group["finished_at"],
        {group["_id"]["code"]: items} if is_failure else {},
        group["size_bytes"],
    )
