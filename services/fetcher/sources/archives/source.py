"""Serve the members of archives to the worker as downloads.

An archive is downloaded with its first requested member, and kept on disk for the others; after a
crash it is downloaded again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import IO

from services.common.domain.ground_truth.elements import MAX_BYTES
from services.common.download.client import Download
from services.common.download.errors import RefusedDownloadError
from services.fetcher.sources.addresses import split_line, split_member
from services.fetcher.sources.archives.contents import MemberReader
from services.fetcher.sources.archives.cut_pages import CutPages
from services.fetcher.sources.archives.members import ArchiveRefusedError, check_size
from services.fetcher.sources.archives.opening import index_archive
from services.fetcher.sources.archives.pages import MAX_PAGE_BYTES, page_digest
from services.fetcher.sources.archives.refusals import Refusals
from services.fetcher.sources.archives.settings import ArchiveSettings
from services.fetcher.sources.errors import UnreadableFileError
from services.fetcher.sources.spool import NoSpaceError, Spool, Stop, run_stoppable, unzipped
from services.fetcher.sources.submitted import ByteSource, fetch_to

OPENED_AT_ONCE = 2
"""Concurrent archives, or pages: each takes a thread, a child process and disk space."""
KEPT_ARCHIVES = 2
"""Archives kept regardless of their last use."""
IDLE_SECONDS = 2.0
"""Time to keep any archive, as items of several archives are interleaved."""
FULL_SECONDS = 5.0
"""Pause of downloads after a full spool, as each item would try again."""
KEPT_SECONDS = 600.0
"""Time after which an archive is downloaded again, as it may have changed."""
FRESH_SECONDS = 30.0
"""Time in which an archive is not downloaded again for a page that differs from its list."""
_COSTLY_REFUSALS = frozenset({ArchiveRefusedError.code, "too_large"})
"""Refusals known only after a download; others may be retried at once."""


@dataclass
class _Kept:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    files: tuple[IO[bytes], ...] = ()
    """The archive and its index, while it is open."""
    reader: MemberReader | None = None
    opened_at: float = 0.0
    used_at: float = 0.0
    users: int = 0
    """Number of readers, including waiting ones."""

    def close(self, spool: Spool) -> None:
        for file in self.files:
            spool.discard(file)
        self.files, self.reader = (), None


class ArchiveSource:
    """Downloads members of archives."""

    def __init__(
        self,
        source: ByteSource,
        settings: ArchiveSettings,
        spool: Spool,
        *,
        max_item_bytes: int,
        timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._settings = settings
        self._spool = spool
        self._max_item_bytes = max_item_bytes
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._threads = ThreadPoolExecutor(OPENED_AT_ONCE, "archives")
        self._pages = CutPages(spool, self._threads, clock)
        self._refusals = Refusals(clock)
        self._full_until = 0.0

    async def get(self, url: str, *, max_bytes: int | None = None) -> Download:
        """Return the content of a member of an archive, or of a line of a page there.

        Raises:
            RefusedDownloadError: Permanent failure.
            FailedDownloadError: Transient failure.
        """
        archive_url, member = split_member(url)
        if of_page := split_line(url):
            page = (archive_url, member, of_page.transcript, of_page.page)
            return await self._pages.get(page, of_page.line, lambda: self._read_page(*page))
        most = self._max_item_bytes if max_bytes is None else max_bytes
        return Download(await self._read(archive_url, member, most), 200, None)

    async def _read_page(
        self, archive_url: str, image: str, transcript: str, digest: str
    ) -> tuple[bytes, bytes]:
        """Read a page as it was listed; an archive that was kept may be older than its list."""
        while True:
            text = await self._read(archive_url, transcript, MAX_BYTES)
            content = await self._read(archive_url, image, MAX_PAGE_BYTES)
            if page_digest(text, content) == digest:
                return text, content
            kept = self._kept.get(archive_url)
            if kept is None or self._clock() - kept.opened_at < FRESH_SECONDS:
                detail = "the page is not the one that was listed: submit its archive again"
                raise RefusedDownloadError("page_changed", detail)
            kept.opened_at = -inf

    async def _read(self, archive_url: str, member: str, max_bytes: int) -> bytes:
        try:
            async with self._opened(archive_url) as reader:
                content = await asyncio.to_thread(reader.read, member, max_bytes=max_bytes)
        except ArchiveRefusedError as error:
            raise _refused(error) from error
        if len(content) > max_bytes:
            raise RefusedDownloadError("too_large", f"more than {max_bytes} bytes")
        if not content:
            raise RefusedDownloadError("empty_body", "the member has no content")
        return content

    def close(self) -> None:
        """Close all archives; no member is read afterwards."""
        self._pages.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for kept in self._kept.values():
            kept.close(self._spool)

    @asynccontextmanager
    async def _opened(self, url: str) -> AsyncIterator[MemberReader]:
        kept = self._kept.setdefault(url, _Kept())
        kept.users += 1
        try:
            async with kept.lock:  # one reader at a time: they share a file position
                if kept.reader is None or self._clock() - kept.opened_at > KEPT_SECONDS:
                    kept.close(self._spool)
                    kept.reader = await self._open(url, kept)
                yield kept.reader
        finally:
            kept.users -= 1
            kept.used_at = self._clock()
            self._kept[url] = self._kept.pop(url)  # least recently used first
            self._forget(KEPT_ARCHIVES, IDLE_SECONDS)

    async def _open(self, url: str, kept: _Kept) -> MemberReader:
        self._refusals.check(url)
        if self._clock() < self._full_until:
            raise NoSpaceError("spool limit reached (FETCHER_MAX_SPOOL_BYTES)")
        try:
            files, reader = await self._fetch(url)
        except RefusedDownloadError as error:
            if error.code in _COSTLY_REFUSALS:
                self._refusals.add(url, error)
            raise
        except NoSpaceError:
            if not self._forget(0, 0.0):  # otherwise there is space for the next one
                self._full_until = self._clock() + FULL_SECONDS
            raise
        kept.files, kept.opened_at = files, self._clock()
        return reader

    async def _fetch(self, url: str) -> tuple[tuple[IO[bytes], ...], MemberReader]:
        """Download an archive, decompress and index it."""
        spool, most = self._spool, self._settings.max_archive_bytes
        packed = spool.new_file()
        index = spool.new_file()
        try:
            await fetch_to(
                packed,
                self._source,
                url,
                spool=spool,
                max_bytes=most,
                timeout_seconds=self._timeout_seconds,
            )
            file, reader = await run_stoppable(
                self._threads, partial(self._read_index, packed, index)
            )
        except BaseException as error:
            spool.discard(packed)
            spool.discard(index)
            if isinstance(error, UnreadableFileError):
                raise _refused(error) from error
            raise
        return (file, index), reader

    def _read_index(
        self, packed: IO[bytes], index: IO[bytes], stop: Stop
    ) -> tuple[IO[bytes], MemberReader]:
        """Decompress and index an archive; runs in a thread."""
        spool, limits, packed_bytes = self._spool, self._settings.limits, packed.tell()
        file = unzipped(packed, spool, lambda _, size: check_size(size, packed_bytes, limits), stop)
        if file is not packed:
            spool.discard(packed)
        try:
            return file, index_archive(file, limits, spool, index, stop)
        except BaseException:
            spool.discard(file)
            raise

    def _forget(self, most: int, idle_seconds: float) -> int:
        """Close unused archives, except recently used ones.

        Returns:
            Number of archives that were open.
        """
        idle = {url: kept for url, kept in self._kept.items() if not kept.users}
        opened = [url for url, kept in idle.items() if kept.files]
        since = self._clock() - idle_seconds
        for place, url in enumerate(reversed(opened)):
            if place < most or idle[url].used_at > since:
                del idle[url]
        closed = sum(bool(kept.files) for kept in idle.values())
        for url, kept in idle.items():
            del self._kept[url]
            kept.close(self._spool)
        return closed


def _refused(error: UnreadableFileError) -> RefusedDownloadError:
    return RefusedDownloadError(ArchiveRefusedError.code, error.detail)


@asynccontextmanager
async def open_archives(
    source: ByteSource,
    settings: ArchiveSettings,
    spool: Spool,
    *,
    max_item_bytes: int,
    timeout_seconds: float,
) -> AsyncIterator[ArchiveSource]:
    """Yield a source of members for an ``async with`` block."""
    archives = ArchiveSource(
        source, settings, spool, max_item_bytes=max_item_bytes, timeout_seconds=timeout_seconds
    )
    try:
        yield archives
    finally:
        archives.close()
