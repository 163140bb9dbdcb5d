"""The ``batches`` collection, and what people do with a batch.

A batch is only ever described by facts that its documents hold: state and counts are derived, so
that they cannot disagree with the items.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice

from services.common.errors import PermanentError
from services.common.index import Collection, Document, DuplicateDocumentError
from services.fetcher.ledger import Counts, ItemOutcome, Ledger, RetryScope
from services.fetcher.lists.rows import Item, Rejection, Row

ROWS_AT_ONCE = 1000
"""Rows written in one go: bounds the memory that a list of any length takes."""
MAX_REJECTIONS = 1000
"""Rejected rows that are kept and shown; the others are counted."""

_LONG_AGO = datetime.fromtimestamp(0, tz=UTC)


class BatchState(StrEnum):
    """Where a batch stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class BatchNotFoundError(PermanentError):
    """There is no such batch."""

    code = "batch_not_found"


class BatchConflictError(PermanentError):
    """The batch is in a state in which this cannot be done."""

    code = "batch_conflict"


class IdempotencyKeyReusedError(PermanentError):
    """The same key came with another list before."""

    code = "idempotency_key_reused"


class EmptyListError(PermanentError):
    """Not one row of the list can be fetched."""

    code = "empty_list"

    def __init__(self, rejections: "Rejections") -> None:
        super().__init__("no row of the list can be fetched")
        self.rejections = rejections


@dataclass
class Rejections:
    """The rows of a list that were not taken."""

    first: list[Rejection] = field(default_factory=list)
    """At most ``MAX_REJECTIONS``."""
    count: int = 0

    def add(self, rejected: Sequence[Rejection]) -> None:
        """Count rows, and keep them while there is room."""
        self.count += len(rejected)
        self.first.extend(rejected[: MAX_REJECTIONS - len(self.first)])


@dataclass(frozen=True)
class Submission:
    """The answer to a list."""

    batch_id: str
    accepted: int
    rejections: Rejections


@dataclass(frozen=True)
class Batch:
    """A batch as it stands."""

    batch_id: str
    name: str | None
    created_at: datetime
    state: BatchState
    counts: Counts


class Batches:
    """Submits, shows, retries and cancels batches.

    Args:
        collection: The ``batches`` collection.
        ledger: Their items.
        wake: Set when a batch has something to be dispatched.
    """

    def __init__(self, collection: Collection, ledger: Ledger, wake: asyncio.Event) -> None:
        self._collection = collection
        self._ledger = ledger
        self._wake = wake

    async def submit(
        self,
        rows: Iterator[Row],
        *,
        digest: str,
        name: str | None = None,
        idempotency_key: str | None = None,
    ) -> Submission:
        """Write a batch and all its items down; when this returns, nothing of it can be lost.

        The same key and list again give the same answer, and go on where a crash cut them off.

        Args:
            rows: Read in a thread, since they may come from a file.
            digest: Tells one list from another.
            name: For people.
            idempotency_key: Chosen by the client.

        Raises:
            EmptyListError: No row can be fetched; nothing is kept.
            IdempotencyKeyReusedError: The key belongs to another list.
            MalformedListError: Reading ``rows`` said so.
        """
        known = await self._by_key(idempotency_key, digest)
        if known is not None and known["loaded"]:
            return _to_submission(known)
        batch_id = known["_id"] if known else None
        accepted, rejections = 0, Rejections()
        while chunk := await asyncio.to_thread(lambda: list(islice(rows, ROWS_AT_ONCE))):
            items = [row for row in chunk if isinstance(row, Item)]
            rejections.add([row for row in chunk if isinstance(row, Rejection)])
            if items:
                batch_id = batch_id or await self._begin(name, idempotency_key, digest)
                await self._ledger.add(batch_id, items)
            accepted += len(items)
        if batch_id is None:
            raise EmptyListError(rejections)
        await self._collection.update_one(
            {"_id": batch_id, "loaded": False},
            {
                "$set": {
                    "loaded": True,
                    "accepted": accepted,
                    "rejected": [asdict(row) for row in rejections.first],
                    "rejected_count": rejections.count,
                }
            },
        )
        self._wake.set()
        return Submission(batch_id, accepted, rejections)

    async def find(self, batch_id: str) -> Batch:
        """Return a batch as it stands.

        Raises:
            BatchNotFoundError: There is none.
        """
        document = await self._document(batch_id)
        counts = await self._ledger.count([batch_id])
        return _to_batch(document, counts[batch_id])

    async def page(self, *, after: str | None, limit: int) -> list[Batch]:
        """Return batches, the newest first, from behind the id ``after``."""
        where: Document = {"loaded": True}
        if after is not None:
            where["_id"] = {"$lt": after}
        found = self._collection.find(where, sort=[("_id", -1)], limit=limit)
        documents = [document async for document in found]
        counts = await self._ledger.count([document["_id"] for document in documents])
        return [_to_batch(document, counts[document["_id"]]) for document in documents]

    async def items(
        self, batch_id: str, *, outcome: ItemOutcome | None, after: str, limit: int
    ) -> AsyncIterator[Document]:
        """Return a batch's items in the list's order (``limit`` 0: all).

        Raises:
            BatchNotFoundError: There is no such batch.
        """
        await self._document(batch_id)
        return self._ledger.items(batch_id, outcome=outcome, after=after, limit=limit)

    async def retry(self, batch_id: str, scope: RetryScope) -> int:
        """Queue failed items again; return how many.

        Raises:
            BatchNotFoundError: There is no such batch.
            BatchConflictError: It was cancelled.
        """
        document = await self._document(batch_id)
        if document["cancelled_at"] is not None:
            raise BatchConflictError("the batch was cancelled: submit its list again")
        # the intention first: whoever dispatches carries it out if this process dies here
        await self._redispatch({"_id": batch_id}, {"requeue": scope})
        requeued = await self._ledger.requeue(batch_id, scope)
        await self._redispatch({"_id": batch_id}, {"requeue": None})
        return requeued

    async def cancel(self, batch_id: str) -> None:
        """Call off what is still queued; cancelling twice is no error.

        Raises:
            BatchNotFoundError: There is no such batch.
            BatchConflictError: It is completed.
        """
        batch = await self.find(batch_id)
        if batch.state is BatchState.COMPLETED:
            raise BatchConflictError("the batch is completed")
        where = {"_id": batch_id, "cancelled_at": None}
        await self._redispatch(where, {"cancelled_at": datetime.now(tz=UTC)})
        await self._ledger.cancel(batch_id)

    async def _redispatch(self, where: Document, fields: Document) -> None:
        """Change a batch and have the dispatcher look at all of it again."""
        again = {"dispatch.done": False, "dispatch.after": ""}
        change = {"$set": {**fields, **again}, "$inc": {"dispatch.version": 1}}
        await self._collection.update_one(where, change)
        self._wake.set()

    async def _document(self, batch_id: str) -> Document:
        document = await self._collection.find_one({"_id": batch_id, "loaded": True})
        if document is None:
            raise BatchNotFoundError(f"there is no batch {batch_id!r}"[:200])
        return document

    async def _by_key(self, idempotency_key: str | None, digest: str) -> Document | None:
        if idempotency_key is None:
            return None
        known = await self._collection.find_one({"idempotency_key": idempotency_key})
        if known is not None and known["digest"] != digest:
            raise IdempotencyKeyReusedError("this Idempotency-Key came with another list before")
        return known

    async def _begin(self, name: str | None, idempotency_key: str | None, digest: str) -> str:
        now = datetime.now(tz=UTC)
        document: Document = {
            "_id": f"{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(6)}",  # sorts by time
            "name": name,
            "created_at": now,
            "digest": digest,
            "loaded": False,
            "cancelled_at": None,
            "requeue": None,
            "dispatch": {
                "done": False,
                "after": "",
                "version": 0,
                "owner": None,
                "leased_until": _LONG_AGO,
            },
        }
        if idempotency_key is not None:  # its index is sparse: null would be a value
            document["idempotency_key"] = idempotency_key
        try:
            await self._collection.insert(document)
        except DuplicateDocumentError:  # the same request is under way elsewhere: join in
            known = await self._by_key(idempotency_key, digest)
            if known is None:
                raise
            return str(known["_id"])
        return str(document["_id"])


def _to_submission(document: Document) -> Submission:
    rejected = [Rejection(**row) for row in document["rejected"]]
    rejections = Rejections(rejected, document["rejected_count"])
    return Submission(document["_id"], document["accepted"], rejections)


def _to_batch(document: Document, counts: Counts) -> Batch:
    state = BatchState.COMPLETED if counts.queued == 0 else BatchState.RUNNING
    if document["cancelled_at"] is not None:
        state = BatchState.CANCELLED
    return Batch(document["_id"], document["name"], document["created_at"], state, counts)
