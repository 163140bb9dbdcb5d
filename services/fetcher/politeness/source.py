"""Report results and Crawl-delays of downloads to the scheduler."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from services.common.download.client import Download
from services.common.download.errors import (
    FailedDownloadError,
    NotModifiedError,
    RefusedDownloadError,
)
from services.common.download.headers import Validators
from services.common.download.urls import host_of
from services.fetcher.politeness.scheduler import HostScheduler
from services.fetcher.sources.addresses import is_submitted

Delay = Callable[[str], Awaitable[float | None]]
"""Returns the ``Crawl-delay`` of a URL's host in seconds, or None."""


class Source(Protocol):
    """A source of images."""

    async def get(
        self, url: str, *, validators: Validators | None = None, max_bytes: int | None = None
    ) -> Download:
        """Return the content of a URL, or raise NotModifiedError.

        Args:
            url: Of an image.
            validators: Of an earlier download.
            max_bytes: Its limit, if not that of an image.
        """
        ...


class ThrottledDownloader:
    """Reports the result of each download to the scheduler."""

    def __init__(self, source: Source, delay: Delay, scheduler: HostScheduler) -> None:
        self._source = source
        self._delay = delay
        self._scheduler = scheduler

    async def get(
        self, url: str, *, validators: Validators | None = None, max_bytes: int | None = None
    ) -> Download:
        """Return the content of a URL; see ``Source``.

        Raises:
            RefusedDownloadError: Permanent failure.
            FailedDownloadError: Transient failure.
            NotModifiedError: Unchanged since the validators.
        """
        if is_submitted(url):  # no request to a host
            return await self._source.get(url, max_bytes=max_bytes)
        host = host_of(url)
        if not self._scheduler.has_responded(host) and (seconds := await self._delay(url)):
            await self._scheduler.set_crawl_delay(host, seconds)
        try:
            download = await self._source.get(url, validators=validators, max_bytes=max_bytes)
        except FailedDownloadError as error:
            if error.host is not None:  # the requested host did answer, with a redirect
                self._scheduler.record_response(host)
            await self._scheduler.record_failure(error.host or host, error)
            raise
        except RefusedDownloadError as error:
            if error.http_status is not None:
                self._scheduler.record_response(host)
            raise
        except NotModifiedError:
            self._scheduler.record_response(host)
            raise
        self._scheduler.record_response(host)
        return download
