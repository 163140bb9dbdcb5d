"""Cache of the lines of recently cut pages, as lines are requested one by one."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from services.common.domain.errors import PermanentError
from services.common.download.client import Download
from services.common.download.errors import RefusedDownloadError
from services.common.runtime.bounded_child import ChildError
from services.fetcher.sources.archives.cutting import CutLine, cut_page
from services.fetcher.sources.spool import Spool, Stop, run_stoppable

KEPT_PAGES = 3
KEPT_SECONDS = 300.0

PageKey = tuple[str, str, str, str]
"""Archive, image, transcription, and the digest of the latter two."""
Members = tuple[bytes, bytes]
"""Transcription and image."""
_Lines = dict[str, CutLine]


@dataclass
class PageFile:
    """The files of a page, in memory until the page is stored."""

    transcript_sha256: str
    content: bytes | None
    """Of the image; None: it is stored."""
    storing: asyncio.Lock = field(default_factory=asyncio.Lock)


_Task = asyncio.Task[tuple[_Lines, PageFile]]


@dataclass(frozen=True)
class LineDownload(Download):
    """A line that was cut out of a page."""

    line: CutLine | None = None
    page: PageFile | None = None


class CutPages:
    """Cuts each page once for all its lines.

    Args:
        spool: Of the pages for the child process.
        threads: Executor that waits for the child process.
        clock: Seconds.
    """

    def __init__(
        self, spool: Spool, threads: Executor, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._spool = spool
        self._threads = threads
        self._clock = clock
        self._pages: OrderedDict[PageKey, tuple[float, _Task]] = OrderedDict()

    async def get(
        self, page: PageKey, line: str, read: Callable[[], Awaitable[Members]]
    ) -> LineDownload:
        """Return a line.

        Args:
            page: Which page.
            line: Id in its transcription.
            read: Reads the page; called unless its lines are cached.

        Raises:
            RefusedDownloadError: It can't be cut.
            FailedDownloadError: The spool is full; also raised by ``read``.
        """
        try:
            lines, file = await asyncio.shield(self._task(page, read))
        except ChildError as error:
            raise RefusedDownloadError("archive_refused", f"the page: {error}") from error
        except Exception as error:
            if not isinstance(error, PermanentError):
                self._pages.pop(page, None)
            raise
        if line not in lines:
            detail = f"the page has no line {line!r} that can be cut out"
            raise RefusedDownloadError("line_not_cut", detail)
        return LineDownload(lines[line].content, 200, None, line=lines[line], page=file)

    def close(self) -> None:
        """Cancel all pages."""
        for _, task in self._pages.values():
            task.cancel()
        self._pages.clear()

    def _task(self, page: PageKey, read: Callable[[], Awaitable[Members]]) -> _Task:
        begun, task = self._pages.get(page, (0.0, None))
        if task is None or task.cancelled() or self._clock() - begun > KEPT_SECONDS:
            task = asyncio.create_task(self._cut(page[1], read))
            task.add_done_callback(_forget_error)
            self._pages[page] = (self._clock(), task)
        self._pages.move_to_end(page)
        done = [key for key, (_, each) in self._pages.items() if each.done() and key != page]
        for key in done[: max(0, len(self._pages) - KEPT_PAGES)]:
            del self._pages[key]
        return task

    async def _cut(
        self, image: str, read: Callable[[], Awaitable[Members]]
    ) -> tuple[_Lines, PageFile]:
        transcript, content = await read()
        with self._spool.file() as file:

            def cut(stop: Stop) -> _Lines:
                self._spool.write(file, transcript)
                self._spool.write(file, content)
                self._spool.flush(file)
                return cut_page(file, len(transcript), image, stop)

            lines = await run_stoppable(self._threads, cut)
        return lines, PageFile(hashlib.sha256(transcript).hexdigest(), content)


def _forget_error(task: _Task) -> None:
    """Mark a page's error as retrieved, as its waiting callers may be cancelled."""
    if not task.cancelled():
        task.exception()
