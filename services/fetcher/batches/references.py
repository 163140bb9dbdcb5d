"""Download lists, or archives of images, by URL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import IO

from yarl import URL

from services.common.domain.errors import PermanentError, TransientError
from services.common.download.errors import FailedDownloadError, RefusedDownloadError
from services.fetcher.batches.submissions import Description
from services.fetcher.list_parameters import ListParameters
from services.fetcher.sources.openings import Opened, Openings
from services.fetcher.sources.sent import Sent, name_of_url
from services.fetcher.sources.spool import NoSpaceError, Spool
from services.fetcher.sources.submitted import ByteSource, fetch_to

FETCHES_AT_ONCE = 2
"""Concurrent downloads: each may need disk space for an archive and its decompressed form."""


class ListUrlRefusedError(PermanentError):
    """The list can't be downloaded from its URL; the code is the download's."""

    def __init__(self, error: RefusedDownloadError) -> None:
        super().__init__(f"list_url: {error.detail}")
        self.code = error.code


class ListUrlFailedError(TransientError):
    """The list was not downloaded from its URL, and may be later."""

    def __init__(self, error: FailedDownloadError) -> None:
        super().__init__(f"list_url: {error.detail}")
        self.code = error.code


class References:
    """Downloads lists."""

    def __init__(
        self, source: ByteSource, spool: Spool, openings: Openings, *, timeout_seconds: float
    ) -> None:
        self._source = source
        self._spool = spool
        self._openings = openings
        self._timeout_seconds = timeout_seconds
        self._fetching = asyncio.Semaphore(FETCHES_AT_ONCE)

    @asynccontextmanager
    async def open(
        self, list_url: str, described: Description, parameters: ListParameters
    ) -> AsyncIterator[tuple[Opened, Description]]:
        """Download a URL and yield it as a list, with its description.

        Raises:
            ListUrlRefusedError: The download failed.
            ListUrlFailedError: It failed, and may succeed later.
            ListTooLargeError, ItemTooLargeError, UnsupportedListFormatError: It is refused.
            NoSpaceError: The spool is full.
            UnreadableFileError: It can't be read; also while reading rows.
        """
        async with self._fetching:
            with self._spool.file() as file:
                await self._fetch(list_url, file)
                sent = Sent(file, name_of_url(list_url), url=list_url)
                said = (list_url, *parameters.given)
                async with self._openings.open(sent, parameters.list_options, *said) as opened:
                    known = replace(
                        described,
                        name=described.name or opened.contents.name,
                        content_digest=opened.digest,
                        list_url=without_secrets(list_url),
                    )
                    yield opened, known

    async def _fetch(self, list_url: str, file: IO[bytes]) -> None:
        try:
            await fetch_to(
                file,
                self._source,
                list_url,
                spool=self._spool,
                max_bytes=self._openings.most_bytes,
                timeout_seconds=self._timeout_seconds,
            )
        except RefusedDownloadError as error:
            raise ListUrlRefusedError(error) from error
        except NoSpaceError:
            raise
        except FailedDownloadError as error:
            raise ListUrlFailedError(error) from error


def without_secrets(url: str) -> str:
    """Return a URL without its query, which may hold a signature."""
    return str(URL(url).with_query(None))
