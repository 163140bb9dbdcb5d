"""Takes lists by reference: a list, or an archive of images, that is fetched from its address."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from os import SEEK_END
from typing import IO

from yarl import URL

from services.common.domain.tables.columns import ReadingOptions
from services.common.domain.tables.list_format import find_format, sniff_format
from services.common.domain.tables.table import Report
from services.common.download.errors import FailedDownloadError, RefusedDownloadError
from services.common.runtime.problems import ProblemError
from services.common.runtime.stoppable import run_stoppable
from services.fetcher.archives.formats import SNIFFED_BYTES, sniff_archive
from services.fetcher.archives.opening import list_archive
from services.fetcher.archives.settings import ArchiveSettings
from services.fetcher.archives.unpacking import ByteSource, check_size, fetch_to, unzipped
from services.fetcher.lists.formats import OpenList
from services.fetcher.lists.reading import counted, open_bounded
from services.fetcher.lists.rows import MalformedListError
from services.fetcher.spool import NoSpaceError, Spool
from services.fetcher.submissions import Description
from services.fetcher.upload import ListLimits, digest_of, too_large

RETRY_AFTER_SECONDS = 30
FETCHES_AT_ONCE = 2
"""Each may take much of the disk for an archive and what gzip made of it."""


class References:
    """Fetches lists.

    Args:
        source: Downloads.
        spool: Where they are meanwhile.
        lists: How large a list may be.
        archives: How large an archive may be.
        timeout_seconds: Limit to fetch one.
    """

    def __init__(
        self,
        source: ByteSource,
        spool: Spool,
        *,
        lists: ListLimits,
        archives: ArchiveSettings,
        timeout_seconds: float,
    ) -> None:
        self._source = source
        self._spool = spool
        self._lists = lists
        self._archives = archives
        self._timeout_seconds = timeout_seconds
        self._fetching = asyncio.Semaphore(FETCHES_AT_ONCE)
        self._threads = ThreadPoolExecutor(FETCHES_AT_ONCE, "lists")

    @asynccontextmanager
    async def open(
        self, list_url: str, described: Description, options: ReadingOptions
    ) -> AsyncIterator[tuple[OpenList, Description]]:
        """Fetch what is at an address, and give it as a list, with what is known of it by now.

        Raises:
            ProblemError: It cannot be fetched (422, or 502 where that may pass), or is too large.
            NoSpaceError: There is no room for it now.
            MalformedListError: It cannot be read; also while its rows are.
        """
        async with self._fetching, self._fetched(list_url) as file:
            digest = await asyncio.to_thread(digest_of, file, list_url, *options.given)
            async with self._opened(file, list_url, options) as opened:
                yield (
                    opened,
                    replace(
                        described,
                        name=described.name or opened.name,
                        content_digest=digest,
                        list_url=without_secrets(list_url),
                    ),
                )

    @asynccontextmanager
    async def _opened(
        self, file: IO[bytes], list_url: str, options: ReadingOptions
    ) -> AsyncIterator[OpenList]:
        size = file.seek(0, SEEK_END)
        file.seek(0)
        if sniff_archive(file.read(SNIFFED_BYTES)):
            if options.given:
                raise MalformedListError("columns and encoding can be named for a list alone")
            report = Report()
            rows = list_archive(file, list_url, self._archives.limits, report)
            yield OpenList(None, counted(rows, self._lists.rows), report)
            return
        found = find_format(content_type=None, file_name=URL(list_url).path)
        list_format = found or sniff_format(file)
        if size > self._lists.of(list_format):
            raise too_large(self._lists.of(list_format))
        most = self._lists.rows
        async with open_bounded(file, list_format, options, max_rows=most) as opened:
            if opened.list_url is not None:
                raise MalformedListError("the list names another list: submit that one")
            yield opened

    @asynccontextmanager
    async def _fetched(self, list_url: str) -> AsyncIterator[IO[bytes]]:
        most = max(self._archives.max_archive_bytes, self._lists.any_bytes)
        spool = self._spool
        with ExitStack() as stack:
            file = spool.new_file()
            stack.callback(spool.discard, file)
            try:
                await fetch_to(
                    file,
                    self._source,
                    list_url,
                    spool=spool,
                    max_bytes=most,
                    timeout_seconds=self._timeout_seconds,
                )
            except RefusedDownloadError as error:
                raise ProblemError(422, error.code, f"list_url: {error.detail}") from error
            except NoSpaceError:
                raise
            except FailedDownloadError as error:
                headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
                detail = f"list_url: {error.detail}"
                raise ProblemError(502, error.code, detail, headers=headers) from error
            check = partial(self._check_size, file.tell())
            whole = await run_stoppable(
                self._threads, lambda stop: unzipped(file, spool, check, stop)
            )
            stack.callback(spool.discard, whole)
            yield whole

    def _check_size(self, packed_bytes: int, start: bytes, size: int) -> None:
        """Refuse what becomes too large as its gzip is undone."""
        if sniff_archive(start):
            check_size(size, packed_bytes, self._archives.limits)
        elif size > self._lists.any_bytes:
            raise too_large(self._lists.any_bytes)


def without_secrets(url: str) -> str:
    """Return a URL without its query, which may hold a signature."""
    return str(URL(url).with_query(None))
