"""Takes lists by reference: a list, or an archive of images, that is fetched from its address."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import IO

from yarl import URL

from services.common.download.errors import FailedDownloadError, RefusedDownloadError
from services.common.problems import ProblemError
from services.common.stoppable import run_stoppable
from services.fetcher.archives.formats import SNIFFED_BYTES, sniff_archive
from services.fetcher.archives.opening import list_archive
from services.fetcher.archives.unpacking import ByteSource, check_size, fetch_to, unzipped
from services.fetcher.lists.formats import OpenList, find_format, open_list, sniff_format
from services.fetcher.settings import ArchiveSettings
from services.fetcher.spool import NoSpaceError, Spool
from services.fetcher.submissions import Description, Submission, Submissions
from services.fetcher.upload import ListLimits, digest_of, too_large

RETRY_AFTER_SECONDS = 30
FETCHES_AT_ONCE = 2
"""Each may take much of the disk for an archive and what gzip made of it."""


class References:
    """Fetches lists and submits them.

    Args:
        source: Downloads.
        submissions: Where lists go.
        spool: Where they are meanwhile.
        lists: How large a list may be.
        archives: How large an archive may be.
        timeout_seconds: Limit to fetch one.
    """

    def __init__(
        self,
        source: ByteSource,
        submissions: Submissions,
        spool: Spool,
        *,
        lists: ListLimits,
        archives: ArchiveSettings,
        timeout_seconds: float,
    ) -> None:
        self._source = source
        self._submissions = submissions
        self._spool = spool
        self._lists = lists
        self._archives = archives
        self._timeout_seconds = timeout_seconds
        self._fetching = asyncio.Semaphore(FETCHES_AT_ONCE)
        self._threads = ThreadPoolExecutor(FETCHES_AT_ONCE, "lists")

    async def submit(self, list_url: str, described: Description) -> Submission:
        """Fetch what is at an address, and take it as a list.

        Raises:
            ProblemError: It cannot be fetched (422, or 502 where that may pass), or is too large.
            NoSpaceError: There is no room for it now.
            EmptyListError, IdempotencyKeyReusedError, MalformedListError: As for any list.
        """
        if known := await self._submissions.answered(described):
            return known
        async with self._fetching, self._fetched(list_url) as file:
            opened, digest = await asyncio.to_thread(self._open, file, list_url)
            described = replace(
                described,
                name=described.name or opened.name,
                content_digest=digest,
                list_url=without_secrets(list_url),
                encoding=opened.encoding,
            )
            return await self._submissions.submit(opened.rows, described)

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

    def _open(self, file: IO[bytes], list_url: str) -> tuple[OpenList, str]:
        digest = digest_of(file, list_url)
        size = file.tell()
        file.seek(0)
        if sniff_archive(file.read(SNIFFED_BYTES)):
            return OpenList(None, list_archive(file, list_url, self._archives.limits)), digest
        found = find_format(content_type=None, file_name=URL(list_url).path)
        list_format = found or sniff_format(file)
        if size > self._lists.of(list_format):
            raise too_large(self._lists.of(list_format))
        return open_list(file, list_format), digest


def without_secrets(url: str) -> str:
    """Return a URL without its query, which may hold a signature."""
    return str(URL(url).with_query(None))
