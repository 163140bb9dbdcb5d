"""Get each item from its source, and report what hosts answer to the scheduler."""

from typing import Protocol

from services.common.download.client import Download
from services.common.download.errors import FailedDownloadError, RefusedDownloadError
from services.common.download.responses import NotModifiedError, Validators
from services.common.download.urls import host_of
from services.fetcher.politeness.scheduler import HostScheduler
from services.fetcher.sources.addresses import is_submitted, split_member


class ItemSource(Protocol):
    """A source of items."""

    async def get(
        self, url: str, *, validators: Validators | None = None, max_bytes: int | None = None
    ) -> Download:
        """Return the content of an item, or raise NotModifiedError.

        Args:
            url: Of the item.
            validators: Of an earlier download.
            max_bytes: Its limit, if not that of an image.
        """
        ...


class FileSource(Protocol):
    """A source of submitted files, or of members of archives."""

    async def get(self, url: str, *, max_bytes: int | None = None) -> Download:
        """Return the content of a file; ``max_bytes``: its limit, if not that of an image."""
        ...


class Web(ItemSource, Protocol):
    """The source of URLs."""

    async def crawl_delay(self, url: str) -> float | None:
        """Return the ``Crawl-delay`` of a URL's host in seconds, or None."""
        ...


class ThrottledDownloader:
    """Gets items, and reports the result of each download to the scheduler.

    Args:
        web: Of URLs.
        scheduler: Of their hosts.
        members: Of members of archives, which may be at URLs.
        files: Of submitted files.
    """

    def __init__(
        self, web: Web, scheduler: HostScheduler, *, members: FileSource, files: FileSource
    ) -> None:
        self._web = web
        self._scheduler = scheduler
        self._members = members
        self._files = files

    async def get(
        self, url: str, *, validators: Validators | None = None, max_bytes: int | None = None
    ) -> Download:
        """Return the content of an item.

        Raises:
            RefusedDownloadError: Permanent failure.
            FailedDownloadError: Transient failure.
            NotModifiedError: Unchanged since the validators; only of a URL.
        """
        if is_submitted(url):  # no request to a host
            return await self._get(url, None, max_bytes)
        host = host_of(url)
        if not self._scheduler.has_responded(host) and (
            seconds := await self._web.crawl_delay(url)
        ):
            await self._scheduler.set_crawl_delay(host, seconds)
        try:
            download = await self._get(url, validators, max_bytes)
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

    async def _get(
        self, url: str, validators: Validators | None, max_bytes: int | None
    ) -> Download:
        _, member = split_member(url)
        if member:
            return await self._members.get(url, max_bytes=max_bytes)
        if is_submitted(url):
            return await self._files.get(url, max_bytes=max_bytes)
        return await self._web.get(url, validators=validators, max_bytes=max_bytes)
