"""Gives the members of archives to the worker as if each were a download of its own.

An archive is downloaded when the first of its members is wanted, and kept on disk for the others;
a process that takes over after a crash downloads it again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import IO, Protocol

from services.common.download.client import Download
from services.common.download.errors import RefusedDownloadError
from services.common.download.headers import Validators
from services.fetcher.archives.addresses import split_member
from services.fetcher.archives.formats import check_size, open_archive
from services.fetcher.archives.members import Archive, ArchiveRefusedError
from services.fetcher.archives.unpacking import ByteSource, fetch_to, unzipped
from services.fetcher.settings import ArchiveSettings
from services.fetcher.spool import NoSpaceError, Spool

OPENED_AT_ONCE = 2
"""Undoing gzip takes a thread for up to a minute, of the few that lists and images need as well."""
KEPT_ARCHIVES = 2
"""However long nobody has read them."""
IDLE_SECONDS = 2.0
"""So long any archive is kept: items of many come by turns, and a moment apart."""
FULL_SECONDS = 5.0
"""So long no archive is downloaded after one that found no room: each item would do it in turn."""
KEPT_SECONDS = 600.0
"""After so long an archive is downloaded again: it may be another one by then."""


class Source(ByteSource, Protocol):
    """Where bytes come from."""

    async def get(self, url: str, *, validators: Validators | None = None) -> Download:
        """Return the content of a URL."""
        ...


@dataclass
class _Kept:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    file: IO[bytes] | None = None
    archive: Archive | None = None
    opened_at: float = 0.0
    used_at: float = 0.0
    users: int = 0
    """Who reads it, and who waits to."""

    def close(self, spool: Spool) -> None:
        if self.file is not None:
            spool.discard(self.file)
        self.file = self.archive = None


class ArchiveSource:
    """Downloads URLs, and members of archives.

    Args:
        source: Downloads.
        settings: How much an archive may be.
        spool: Where archives are kept.
        max_item_bytes: Largest member, decompressed.
        timeout_seconds: Limit to download an archive.
        clock: Seconds, for tests.
    """

    def __init__(
        self,
        source: Source,
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
        self._opening = asyncio.Semaphore(OPENED_AT_ONCE)
        self._full_until = 0.0

    async def get(self, url: str, *, validators: Validators | None = None) -> Download:
        """Return the content of a URL, or of a member of the archive there.

        Raises:
            RefusedDownloadError: It fails every time.
            FailedDownloadError: It may work later.
            NotModifiedError: It is what it was, say the validators; never of a member.
        """
        archive_url, member = split_member(url)
        if not member:
            return await self._source.get(url, validators=validators)
        try:
            async with self._opened(archive_url) as archive:
                content = await asyncio.to_thread(
                    archive.read, member, max_bytes=self._max_item_bytes
                )
        except ArchiveRefusedError as error:
            raise RefusedDownloadError(error.code, error.detail) from error
        if len(content) > self._max_item_bytes:
            raise RefusedDownloadError("too_large", f"more than {self._max_item_bytes} bytes")
        if not content:
            raise RefusedDownloadError("empty_body", "the member has no content")
        return Download(content, 200, None)

    def close(self) -> None:
        """Forget all archives; no member is read any more."""
        for kept in self._kept.values():
            kept.close(self._spool)

    @asynccontextmanager
    async def _opened(self, url: str) -> AsyncIterator[Archive]:
        kept = self._kept.setdefault(url, _Kept())
        kept.users += 1
        try:
            async with kept.lock:  # one reader at a time: they share a file position
                if kept.archive is None or self._clock() - kept.opened_at > KEPT_SECONDS:
                    kept.close(self._spool)
                    kept.archive = await self._open(url, kept)
                yield kept.archive
        finally:
            kept.users -= 1
            kept.used_at = self._clock()
            self._kept[url] = self._kept.pop(url)  # the last used last
            self._forget(KEPT_ARCHIVES, IDLE_SECONDS)

    async def _open(self, url: str, kept: _Kept) -> Archive:
        settings, spool = self._settings, self._spool
        limits = settings.limits
        if self._clock() < self._full_until:
            raise NoSpaceError("another archive has just found no room")
        file = spool.new_file()
        try:
            await fetch_to(
                file,
                self._source,
                url,
                spool=spool,
                max_bytes=settings.max_archive_bytes,
                timeout_seconds=self._timeout_seconds,
            )
            async with self._opening:
                file = await asyncio.to_thread(
                    unzipped, file, spool, lambda _, size: check_size(size, limits.decoded_bytes)
                )
                archive = await asyncio.to_thread(open_archive, file, limits)
        except BaseException as error:
            spool.discard(file)
            if isinstance(error, NoSpaceError) and not self._forget(0, 0.0):
                self._full_until = self._clock() + FULL_SECONDS  # else the next one has the room
            raise
        kept.file, kept.opened_at = file, self._clock()
        return archive

    def _forget(self, most: int, idle_seconds: float) -> int:
        """Close what nobody uses, but for those that were used last or just now.

        Returns:
            How many archives were open.
        """
        idle = {url: kept for url, kept in self._kept.items() if not kept.users}
        opened = [url for url, kept in idle.items() if kept.file is not None]
        since = self._clock() - idle_seconds
        for place, url in enumerate(reversed(opened)):
            if place < most or idle[url].used_at > since:
                del idle[url]
        closed = sum(kept.file is not None for kept in idle.values())
        for url, kept in idle.items():
            del self._kept[url]
            kept.close(self._spool)
        return closed


@asynccontextmanager
async def open_archives(
    source: Source,
    settings: ArchiveSettings,
    spool: Spool,
    *,
    max_item_bytes: int,
    timeout_seconds: float,
) -> AsyncIterator[ArchiveSource]:
    """Give a source of URLs and of members, for the length of an ``async with`` block."""
    archives = ArchiveSource(
        source, settings, spool, max_item_bytes=max_item_bytes, timeout_seconds=timeout_seconds
    )
    try:
        yield archives
    finally:
        archives.close()
