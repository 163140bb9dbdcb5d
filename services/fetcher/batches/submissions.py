"""Takes lists: when one is answered, nothing of it can be lost."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from services.common.adapters.mongo import Collection, Document, DuplicateDocumentError
from services.common.domain.errors import PermanentError, TransientError
from services.common.domain.provenance import DEFAULT_COLLECTION, SourceKind
from services.fetcher.batches.ledger import NOTHING
from services.fetcher.batches.pages import Page, Pages, cut, to_page
from services.fetcher.sources.lists.formats import OpenList
from services.fetcher.sources.lists.rows import Item, Rejection, Row

MAX_REJECTIONS = 1000
"""Rejected rows that are kept and shown; the others are counted."""

PREVIEW_ROWS = 20
READ_AT_ONCE = 4
"""Lists whose rows are read; others wait, and images' work has threads of its own."""

TOUCHED_SECONDS = 60.0
"""So often who takes a list says that it is in use, lest it be cleared."""
_LONG_AGO = datetime.fromtimestamp(0, tz=UTC)


class IdempotencyKeyReusedError(PermanentError):
    """The same key came with another list before."""

    code = "idempotency_key_reused"


class ListClearedError(TransientError):
    """It took so long that others took the list for given up; it can be sent again."""

    code = "list_cleared"


class EmptyListError(PermanentError):
    """Not one row of the list can be fetched."""

    code = "empty_list"

    def __init__(self, rejections: "Rejections", reading: dict[str, Any]) -> None:
        super().__init__("no row of the list can be fetched")
        self.rejections = rejections
        self.reading = reading


class StrictListError(PermanentError):
    """Something of the list was not taken as it stands, and its sender wants all or nothing."""

    code = "strict_list"

    def __init__(self, submission: "Submission") -> None:
        reading = submission.reading
        super().__init__(
            f"nothing was taken: {submission.rejections.count} rows are rejected, "
            f"{reading['note_count']} notes, "
            f"{reading['texts_without_image']} texts found no image"
        )
        self.rejections = submission.rejections
        self.reading = reading


@dataclass
class Rejections:
    """The rows of a list that were not taken."""

    first: list[Rejection] = field(default_factory=list)
    """At most ``MAX_REJECTIONS``."""
    count: int = 0

    def add(self, rejected: Rejection) -> None:
        """Count a row, and keep it while there is room."""
        self.count += 1
        if len(self.first) < MAX_REJECTIONS:
            self.first.append(rejected)


@dataclass(frozen=True)
class Description:
    """What is said of a list by who sends it.

    Args:
        digest: Tells what was sent from anything else: a list, or the address of one.
        content_digest: Tells the list itself from another at the same address.
        name: For people.
        idempotency_key: Chosen by the client.
        list_url: Where the list is from, without secrets.
        kind: By which way its images come.
        collection: What they belong to.
        licence: Of the images whose row says none.
        by: Who sends it.
    """

    digest: str
    content_digest: str = ""
    name: str | None = None
    idempotency_key: str | None = None
    list_url: str | None = None
    kind: SourceKind = "url"
    collection: str = DEFAULT_COLLECTION
    licence: str | None = None
    by: str | None = None


@dataclass(frozen=True)
class Submission:
    """The answer to a list."""

    batch_id: str
    accepted: int
    rejections: Rejections
    reading: dict[str, Any] = field(default_factory=dict)
    """A ``Report``: how the list was read; empty where an earlier version took it."""


@dataclass(frozen=True)
class ListPreview:
    """What a list would be taken as."""

    first: list[Item]
    accepted: int
    rejections: Rejections
    reading: dict[str, Any]


class Submissions:
    """Writes batches and their lists down.

    Args:
        batches: The ``batches`` collection.
        pages: Their lists.
        wake: Set when a batch has something to be dispatched.
    """

    def __init__(self, batches: Collection, pages: Pages, wake: asyncio.Event) -> None:
        self._batches = batches
        self._pages = pages
        self._wake = wake
        self._threads = ThreadPoolExecutor(READ_AT_ONCE, "lists")

    async def answered(self, described: Description) -> Submission | None:
        """Return the answer that this key and list had before, or None.

        Raises:
            IdempotencyKeyReusedError: The key belongs to another list.
        """
        known = await self._known(described)
        return _to_submission(known) if known is not None and known["loaded"] else None

    async def preview(self, opened: OpenList) -> ListPreview:
        """Read a list and keep nothing of it.

        Raises:
            MalformedListError: Reading its rows said so.
        """

        def read() -> ListPreview:
            rejections, accepted = Rejections(), 0
            first: list[Item] = []
            for row in opened.rows:
                if isinstance(row, Item):
                    accepted += 1
                    if len(first) < PREVIEW_ROWS:
                        first.append(row)
                else:
                    rejections.add(row)
            return ListPreview(first, accepted, rejections, asdict(opened.report))

        return await asyncio.get_running_loop().run_in_executor(self._threads, read)

    async def submit(
        self,
        opened: OpenList,
        described: Description,
        *,
        strict: bool = False,
        keep: Callable[[], Awaitable[None]] | None = None,
    ) -> Submission:
        """Write a batch and its list down; when this returns, nothing of it can be lost.

        The same key and list again give the same answer, and go on where a crash cut them off.

        Args:
            opened: Its rows are read in a thread, since they come from another process.
            described: The list as a whole.
            strict: Whether all of it is to be taken as it stands, or nothing.
            keep: Keeps what its items are read from; called before any of them is.

        Raises:
            ObjectStoreUnavailableError: The file was not kept; it can be sent again.
            StrictListError: It is not, and nothing is kept.
            EmptyListError: No row can be fetched; nothing is kept.
            IdempotencyKeyReusedError: The key belongs to another list.
            ListClearedError: It took longer than unfinished lists are kept.
            MalformedListError: Reading its rows said so.
        """
        known = await self._known(described)
        if known is not None and known["loaded"]:
            return _to_submission(known)
        batch_id = await self._join(known, described) if known else None
        count, accepted, rejections, touched = 0, 0, Rejections(), time.monotonic()
        pages, loop = _pages(opened.rows, rejections), asyncio.get_running_loop()
        while page := await loop.run_in_executor(self._threads, next, pages, None):
            batch_id = batch_id or await self._begin(described)
            await self._pages.add(batch_id, page)
            count += 1
            accepted += page.items
            if time.monotonic() - touched > TOUCHED_SECONDS:
                touched = time.monotonic()
                await self._touch(batch_id)
        reading = asdict(opened.report)
        if batch_id is None:
            raise EmptyListError(rejections, reading)
        submission = Submission(batch_id, accepted, rejections, reading)
        if strict and (rejections.count or reading["note_count"] or reading["texts_without_image"]):
            await self._pages.clear(batch_id)
            await self._batches.delete_many({"_id": batch_id, "loaded": False})
            raise StrictListError(submission)
        if keep is not None:
            await keep()
        await self._finish(batch_id, count, submission)
        return submission

    async def _finish(self, batch_id: str, count: int, submission: Submission) -> None:
        """Note that all pages of a list are written down; another may have done so."""
        whole = {
            "loaded": True,
            "accepted": submission.accepted,
            "pages.count": count,
            "rejected": [asdict(row) for row in submission.rejections.first],
            "rejected_count": submission.rejections.count,
            "reading": submission.reading,
        }
        where = {"_id": batch_id, "loaded": False, "is_given_up": False}
        is_ours = await self._batches.update_one(where, {"$set": whole})
        if not is_ours and not await self._batches.count({"_id": batch_id, "loaded": True}):
            await self._pages.clear(batch_id)  # those that came after the others were cleared
            raise ListClearedError("the list took too long: send it again")
        self._wake.set()

    async def _known(self, described: Description) -> Document | None:
        if described.idempotency_key is None:
            return None
        known = await self._batches.find_one({"idempotency_key": described.idempotency_key})
        if known is not None and known["digest"] != described.digest:
            raise IdempotencyKeyReusedError("this Idempotency-Key came with another list before")
        return known

    async def _begin(self, described: Description) -> str:
        document = _to_document(described)
        try:
            await self._batches.insert(document)
        except DuplicateDocumentError:  # the same request is under way elsewhere: join in
            known = await self._known(described)
            joined = await self._join(known, described) if known else None
            if joined is None:
                raise
            return joined
        return str(document["_id"])

    async def _join(self, known: Document, described: Description) -> str | None:
        """Go on with a batch whose list is this very one; return its id, or None: it is cleared."""
        if known["content_digest"] != described.content_digest:
            raise IdempotencyKeyReusedError("the list at this address is another one by now")
        return str(known["_id"]) if await self._touch(known["_id"]) else None

    async def _touch(self, batch_id: str) -> bool:
        """Say that a list is in use; return whether it is there."""
        now = {"$set": {"touched_at": datetime.now(tz=UTC)}}
        return await self._batches.update_one({"_id": batch_id, "is_given_up": False}, now)


def _pages(rows: Iterator[Row], rejections: Rejections) -> Iterator[Page]:
    """Pack the good rows, and put the bad ones aside."""

    def items() -> Iterator[Item]:
        for row in rows:
            if isinstance(row, Item):
                yield row
            else:
                rejections.add(row)

    for number, page in enumerate(cut(items())):
        yield to_page(number, page)


def _to_document(described: Description) -> Document:
    now = datetime.now(tz=UTC)
    document: Document = {
        "_id": f"{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(6)}",  # sorts by time
        "name": described.name,
        "list_url": described.list_url,
        "kind": described.kind,
        "collection": described.collection,
        "licence": described.licence,
        "by": described.by,
        "created_at": now,
        "digest": described.digest,
        "content_digest": described.content_digest,
        "loaded": False,
        "touched_at": now,
        "is_given_up": False,
        "cancelled_at": None,
        "requeue": None,
        "pages": {
            "count": 0,
            "next": 0,
            "published": 0,
            "counted": [],
            "kept": dict(NOTHING.by_outcome),
            "failure_codes": {},
            "size_bytes": 0,
            "finished_at": None,
        },
        "dispatch": {
            "done": False,
            "after": None,
            "version": 0,
            "owner": None,
            "leased_until": _LONG_AGO,
        },
    }
    if described.idempotency_key is not None:  # its index is sparse: null would be a value
        document["idempotency_key"] = described.idempotency_key
    return document


def _to_submission(document: Document) -> Submission:
    rejected = [Rejection(**row) for row in document["rejected"]]
    rejections = Rejections(rejected, document["rejected_count"])
    reading = document.get("reading", {})
    return Submission(document["_id"], document["accepted"], rejections, reading)
