"""Accept lists durably."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.common.domain.batch import Batch, RejectedRow
from services.common.domain.errors import DuplicateDocumentError, PermanentError, TransientError
from services.common.domain.provenance import DEFAULT_COLLECTION, SourceKind
from services.common.domain.tables.report import Report
from services.common.domain.texts import number_of
from services.fetcher.batches.pages import ListPage, ListPages, cut, to_page
from services.fetcher.batches.repository import BatchRepository
from services.fetcher.sources.errors import Rejection
from services.fetcher.sources.lists.formats import OpenList
from services.fetcher.sources.lists.rows import ListItem, Row

MAX_REJECTIONS = 1000
"""Limit of stored rejections; further ones are counted."""

PREVIEW_ROWS = 20
READ_AT_ONCE = 4
"""Lists read concurrently, in their own threads."""

TOUCHED_SECONDS = 60.0
"""Interval of the heartbeat that protects a list in use from cleanup."""


class IdempotencyKeyReusedError(PermanentError):
    """The key was used with another list."""

    code = "idempotency_key_reused"


class ListClearedError(TransientError):
    """The incomplete list was cleaned up before it was finished; it can be sent again."""

    code = "list_cleared"


@dataclass
class Rejections:
    """The rejected rows of a list."""

    first: list[RejectedRow] = field(default_factory=list)
    """At most ``MAX_REJECTIONS``."""
    count: int = 0

    def add(self, rejected: Rejection) -> None:
        """Count a row, and store it below the limit."""
        self.count += 1
        if len(self.first) < MAX_REJECTIONS:
            self.first.append(RejectedRow.model_validate(rejected))


class EmptyListError(PermanentError):
    """The list has no valid row."""

    code = "empty_list"

    def __init__(self, rejections: Rejections, reading: Report) -> None:
        super().__init__("the list has no valid row")
        self.rejections = rejections
        self.reading = reading


class StrictListError(PermanentError):
    """A row was rejected or interpreted in strict mode."""

    code = "strict_list"

    def __init__(self, rejections: Rejections, reading: Report) -> None:
        super().__init__(
            f"list refused (strict): {number_of(rejections.count, 'row')} rejected, "
            f"{number_of(reading.note_count, 'note')}, "
            f"{number_of(reading.texts_without_image, 'text')} found no image"
        )
        self.rejections = rejections
        self.reading = reading


@dataclass(frozen=True)
class Description:
    """Description of a list by its sender.

    Args:
        digest: Of the request: of the list, or of its URL.
        content_digest: Of the list itself.
        name: For display.
        idempotency_key: Chosen by the client.
        list_url: Redacted URL of the list.
        kind: Origin of its images.
        collection: Of its images.
        is_collection_given: Whether the submitter named it.
        licence: Default licence of its images.
        by: Submitter.
    """

    digest: str
    content_digest: str = ""
    name: str | None = None
    idempotency_key: str | None = None
    list_url: str | None = None
    kind: SourceKind = "url"
    collection: str = DEFAULT_COLLECTION
    is_collection_given: bool = False
    licence: str | None = None
    by: str | None = None


@dataclass(frozen=True)
class ListPreview:
    """Result of a dry run."""

    first: list[ListItem]
    accepted: int
    rejections: Rejections
    reading: Report


class Submissions:
    """Stores batches and their lists."""

    def __init__(self, batches: BatchRepository, pages: ListPages, wake: asyncio.Event) -> None:
        self._batches = batches
        self._pages = pages
        self._wake = wake
        self._threads = ThreadPoolExecutor(READ_AT_ONCE, "lists")

    async def answered(self, described: Description) -> Batch | None:
        """Return the earlier batch of this key and list, or None.

        Raises:
            IdempotencyKeyReusedError: The key belongs to another list.
        """
        submitted = await self._find_submitted(described)
        return submitted if submitted is not None and submitted.loaded else None

    async def preview(self, opened: OpenList) -> ListPreview:
        """Read a list without storing it.

        Raises:
            UnreadableFileError: Its rows can't be read.
        """

        def read() -> ListPreview:
            rejections, accepted = Rejections(), 0
            first: list[ListItem] = []
            for row in opened.rows:
                if isinstance(row, ListItem):
                    accepted += 1
                    if len(first) < PREVIEW_ROWS:
                        first.append(row)
                else:
                    rejections.add(row)
            return ListPreview(first, accepted, rejections, opened.report)

        return await asyncio.get_running_loop().run_in_executor(self._threads, read)

    async def submit(
        self,
        opened: OpenList,
        described: Description,
        *,
        strict: bool = False,
        keep: Callable[[], Awaitable[None]] | None = None,
    ) -> Batch:
        """Store a batch and its list durably.

        The same key and list give the same batch, and resume after a crash.

        Args:
            opened: Its rows are read in a thread, as they come from another process.
            described: The list as a whole.
            strict: Whether to refuse a list with rejected or interpreted rows.
            keep: Stores the file of its items, before any is dispatched.

        Raises:
            ObjectStoreUnavailableError: The file was not stored; it can be sent again.
            StrictListError: Refused in strict mode.
            EmptyListError: There is no valid row.
            IdempotencyKeyReusedError: The key belongs to another list.
            ListClearedError: It took longer than incomplete lists are kept.
            UnreadableFileError: Its rows can't be read.
        """
        submitted = await self._find_submitted(described)
        if submitted is not None and submitted.loaded:
            return submitted
        rejections = Rejections()
        batch = await self._write_pages(opened.rows, described, submitted, rejections)
        reading = opened.report
        if batch is None:
            raise EmptyListError(rejections, reading)
        if strict and (rejections.count or reading.note_count or reading.texts_without_image):
            await self._pages.clear(batch.id)
            await self._batches.delete_unfinished(batch.id)
            raise StrictListError(rejections, reading)
        if keep is not None:
            await keep()
        batch = batch.having(
            rejected=tuple(rejections.first),
            rejected_count=rejections.count,
            reading=reading,
            licence=batch.licence or reading.licence,
        )
        await self._complete(batch)
        return batch

    async def _complete(self, batch: Batch) -> None:
        """Mark a list as complete, and let it be dispatched."""
        if not await self._batches.load(batch):
            await self._pages.clear(batch.id)  # pages written after the cleanup
            raise ListClearedError("the list took too long: send it again")
        self._wake.set()

    async def _write_pages(
        self,
        rows: Iterator[Row],
        described: Description,
        submitted: Batch | None,
        rejections: Rejections,
    ) -> Batch | None:
        """Store the pages of a list; return its batch, or None without valid rows."""
        batch = await self._join(submitted, described) if submitted else None
        count, accepted, touched = 0, 0, time.monotonic()
        pages, loop = _pages(rows, rejections), asyncio.get_running_loop()
        while page := await loop.run_in_executor(self._threads, next, pages, None):
            batch = batch or await self._begin(described)
            await self._pages.add(batch.id, page)
            count += 1
            accepted += page.items
            if time.monotonic() - touched > TOUCHED_SECONDS:
                touched = time.monotonic()
                await self._batches.touch(batch.id)
        return batch and batch.having(accepted=accepted, pages=batch.pages.having(count=count))

    async def _find_submitted(self, described: Description) -> Batch | None:
        if described.idempotency_key is None:
            return None
        submitted = await self._batches.with_key(described.idempotency_key)
        if submitted is not None and submitted.digest != described.digest:
            raise IdempotencyKeyReusedError(
                "Idempotency-Key was already used with a different request body"
            )
        return submitted

    async def _begin(self, described: Description) -> Batch:
        batch = _new_batch(described)
        try:
            await self._batches.add(batch)
        except DuplicateDocumentError:  # the same request is being processed elsewhere: join it
            submitted = await self._find_submitted(described)
            joined = await self._join(submitted, described) if submitted else None
            if joined is None:
                raise
            return joined
        return batch

    async def _join(self, submitted: Batch, described: Description) -> Batch | None:
        """Resume a batch with the same list; return it, or None if it was deleted."""
        if submitted.content_digest != described.content_digest:
            raise IdempotencyKeyReusedError("list content at this URL has changed")
        return submitted if await self._batches.touch(submitted.id) else None


def _pages(rows: Iterator[Row], rejections: Rejections) -> Iterator[ListPage]:
    """Encode valid rows, and collect rejections."""

    def items() -> Iterator[ListItem]:
        for row in rows:
            if isinstance(row, ListItem):
                yield row
            else:
                rejections.add(row)

    for number, page in enumerate(cut(items())):
        yield to_page(number, page)


def _new_batch(described: Description) -> Batch:
    now = datetime.now(tz=UTC)
    batch_id = f"{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(6)}"  # sorts by time
    return Batch(id=batch_id, created_at=now, touched_at=now, **vars(described))
