"""Send a list through the pipeline and show the progress."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import Progress, TaskID

from infra.local.errors import LocalError
from infra.local.submission import submit, submit_page
from services.cli.fetcher import polled
from services.cli.output import counted, plain
from services.cli.progress import progress_bar
from services.common.adapters.fetcher_api import FetcherClient
from services.common.adapters.mongo import Collection, Database
from services.common.adapters.page_repository import PageRepository
from services.common.domain.fetcher_answers import BatchDetails, ItemStatus, Submission
from services.common.domain.page import PAGES_BUCKET
from services.common.domain.page_document import PageDocument
from services.common.domain.pieces import in_pieces
from services.segmenter.provenance import rendered_key

POLL_SECONDS = 0.2
FETCH_STALLED_SECONDS = 900.0
"""Longer than the longest retry delay of an item."""
IDS_AT_ONCE = 500

Follow = Callable[[Collection, list[str], str], Awaitable[frozenset[str]]]
"""Waits for documents, and returns those that do not come."""


class StalledError(LocalError):
    """There was no progress for a long time."""


@dataclass(frozen=True)
class Ingested:
    """Result of a list."""

    submission: Submission
    batch: BatchDetails
    items: list[ItemStatus]
    missing: frozenset[str]
    """Missing documents; empty on success."""
    pages: list[PageDocument] = field(default_factory=list)
    """Documents of its pages, and of those that PDFs and TIFFs were rendered into."""
    is_earlier: bool = False
    """Whether an earlier start has submitted the same."""

    @property
    def document_ids(self) -> list[str]:
        """Ids of the documents of its images, in the list's order, and of its pages' lines."""
        return document_ids(self.items) + line_ids(self.pages)

    @property
    def is_complete(self) -> bool:
        """Whether every item is indexed or has a recorded reason."""
        known = {"stored", "unchanged", "failed"}
        return not self.missing and all(
            item.outcome in known and (item.outcome != "failed" or item.code) for item in self.items
        )


async def ingest(
    source: str | None,
    *,
    samples_port: int,
    fetcher: FetcherClient,
    database: Database,
    console: Console,
    stalled_seconds: float,
) -> Ingested:
    """Submit a list, and wait until each item has its document or a reason, pages with their lines.

    Missing documents are part of the result, so that the others can be shown.

    Args:
        source: Path or http(s) address of the list; None: the bundled samples, and a page.
        samples_port: Port of the bundled samples.
        fetcher: Accepts the list.
        database: The database of documents.
        console: Shows the progress.
        stalled_seconds: Timeout after the last new document.

    Raises:
        ListError: The list can't be read.
        FetcherUnavailableError: The fetcher does not answer.
        FetcherRefusedError: It refuses the list.
        StalledError: The fetches made no progress for a long time.
    """
    begin = datetime.now(UTC)
    submission = await submit(source, samples_port, fetcher)
    of_page = await submit_page(fetcher) if source is None else None
    with progress_bar(console, shows_end=True) as bar:
        batch = await _follow_fetches(fetcher, submission.batch_id, bar)
        items = [item async for item in fetcher.items(submission.batch_id)]
        if of_page is not None:
            await _follow_fetches(fetcher, of_page.batch_id, bar)
            items += [item async for item in fetcher.items(of_page.batch_id)]

        async def follow(collection: Collection, ids: list[str], what: str) -> frozenset[str]:
            return await _follow_documents(
                collection, ids, bar, what=what, stalled_seconds=stalled_seconds
            )

        pages, missing_pages = await _follow_pages(database, items, follow)
        ids = document_ids(items) + line_ids(pages)
        missing = await follow(database.images, ids, "indexing")
    is_earlier = batch.created_at is not None and batch.created_at < begin
    return Ingested(submission, batch, items, missing | missing_pages, pages, is_earlier=is_earlier)


def document_ids(items: Iterable[ItemStatus]) -> list[str]:
    """Return the ids of the documents of fetched images, without duplicates."""
    keys = (item.key for item in items if item.key and not item.is_page)
    return list(dict.fromkeys(map(document_id, keys)))


def line_ids(pages: Iterable[PageDocument]) -> list[str]:
    """Return the ids of the documents of the lines of pages, without duplicates."""
    keys = (line.key for page in pages for line in page.current if line.key)
    return list(dict.fromkeys(map(document_id, keys)))


def page_id(key: str) -> str:
    """Return the id of a page's document."""
    return f"{PAGES_BUCKET}/{key}"


def document_id(key: str) -> str:
    """Return the id of an object's document."""
    return f"raw/{key}"


async def _follow_fetches(fetcher: FetcherClient, batch_id: str, bar: Progress) -> BatchDetails:
    task = bar.add_task("fetching", total=None, words="")
    batch = await fetcher.batch(batch_id)
    async with _stall_limit(FETCH_STALLED_SECONDS, "the fetches") as limit:
        async for batch in polled(fetcher, batch_id, every_seconds=POLL_SECONDS):
            outcomes = {name: n for name, n in batch.counts if name != "queued"}
            _show(bar, task, batch.done, batch.total, plain(counted(outcomes)))
            limit.moved_to(batch.done)
    return batch


async def _follow_pages(
    database: Database, items: Iterable[ItemStatus], follow: Follow
) -> tuple[list[PageDocument], frozenset[str]]:
    """Wait for the documents of pages; return them, and the ids of missing ones."""
    ids = list(dict.fromkeys(page_id(item.key) for item in items if item.key and item.is_page))
    missing = await follow(database.pages, ids, "segmenting")
    pages = await _pages(database, ids)
    parts = [
        page_id(rendered_key(page.sha256 or "", number))
        for page in pages
        for number in range(1, (page.rendered or 0) + 1)
    ]
    missing |= await follow(database.pages, parts, "segmenting")
    return pages + await _pages(database, parts), missing


async def _pages(database: Database, ids: list[str]) -> list[PageDocument]:
    pages = PageRepository(database.pages)
    found = [await pages.get(each) for each in ids]
    return [page for page in found if page is not None]


async def _follow_documents(
    images: Collection,
    ids: list[str],
    bar: Progress,
    *,
    what: str,
    stalled_seconds: float,
) -> frozenset[str]:
    """Wait for the documents; return those still missing after the timeout."""
    if not ids:
        return frozenset()
    task = bar.add_task(what, total=len(ids), words="")
    now = asyncio.get_running_loop().time
    waiting, moved_at = ids, now()
    while waiting and now() - moved_at < stalled_seconds:
        present = await _present(images, waiting)
        waiting = [each for each in waiting if each not in present]
        _show(bar, task, len(ids) - len(waiting), len(ids), "documents in MongoDB")
        if present:
            moved_at = now()
        else:
            await asyncio.sleep(POLL_SECONDS)
    return frozenset(waiting)


async def _present(images: Collection, ids: Sequence[str]) -> set[str]:
    """Return the existing ones; all are queried, as the first may never come."""
    found = set[str]()
    for some in in_pieces(ids, IDS_AT_ONCE):
        where = {"_id": {"$in": some}, "status": {"$ne": "removed"}}
        found |= {str(each["_id"]) async for each in images.find(where, fields={"_id": 1})}
    return found


def _show(bar: Progress, task: TaskID, done: int, total: int, words: str) -> None:
    bar.update(task, completed=done, total=total, words=words)


class _Limit:
    def __init__(self, timeout: asyncio.Timeout, seconds: float) -> None:
        self._timeout = timeout
        self._seconds = seconds
        self._done = -1

    def moved_to(self, done: int) -> None:
        """Restart the timeout after progress."""
        if done != self._done:
            self._done = done
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._seconds)


@asynccontextmanager
async def _stall_limit(seconds: float, what: str) -> AsyncIterator[_Limit]:
    try:
        async with asyncio.timeout(seconds) as timeout:
            yield _Limit(timeout, seconds)
    except TimeoutError:
        raise StalledError(
            f"{what} have made no progress for {seconds:.0f} s: see the logs, and the queues in "
            "RabbitMQ's management"
        ) from None
