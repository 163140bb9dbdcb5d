"""Download one URL safely, within limits, with a stable code for each failure."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
from aiohttp.abc import AbstractResolver
from prometheus_client import CollectorRegistry
from yarl import URL

from services.common.domain.image_formats import CONTENT_TYPES
from services.common.download.errors import FailedDownloadError, RefusedDownloadError, to_detail
from services.common.download.guard import AddressGuard, open_resolver
from services.common.download.responses import (
    NotModifiedError,
    Validators,
    check_robots_tag,
    check_status,
    clean_date,
    clean_etag,
)
from services.common.download.robots import RobotsPolicy
from services.common.download.settings import DownloadSettings
from services.common.download.transport import Body, DownloadMetrics, LargeBodyLimiter, Transport
from services.common.download.urls import host_of, to_url

_MOST_HEADERS = 128
_LONGEST_HEADER = 8190

SMALL_BYTES = 1024 * 1024
"""Bodies up to this size need no slot of ``LargeBodyLimiter``; a line of text has a tenth of it."""
LARGE_AT_ONCE = 8
"""Limit of larger bodies in memory: a few hosts with large photos could fill it."""


@dataclass(frozen=True)
class Download:
    """A body as received, after decompression."""

    content: bytes
    http_status: int
    content_type: str | None
    """As declared by the host."""
    etag: str | None = None
    """None if it is not valid for a conditional request."""
    last_modified: str | None = None
    robots_tag: str | None = None
    """X-Robots-Tag, truncated."""
    final_url: str | None = None
    """URL after redirects; its query may hold secrets."""

    @property
    def validators(self) -> Validators | None:
        """For the next conditional request; None if the host sent none."""
        if not (self.etag or self.last_modified):
            return None
        return Validators(self.etag, self.last_modified, self.final_url)


class Downloader:
    """Downloads URLs that robots.txt allows.

    Args:
        transport: Sends the requests.
        settings: Limits.
        robots: Checks robots.txt; None: ignored.
        metrics: Counts downloads.
    """

    def __init__(
        self,
        transport: Transport,
        settings: DownloadSettings,
        robots: RobotsPolicy | None,
        metrics: DownloadMetrics,
    ) -> None:
        self._transport = transport
        self._settings = settings
        self._robots = robots
        self._seconds = metrics.seconds
        self._large_bodies = LargeBodyLimiter(LARGE_AT_ONCE)

    async def get(
        self, url: str, *, max_bytes: int | None = None, validators: Validators | None = None
    ) -> Download:
        """Download a URL, following redirects.

        A body of more than ``SMALL_BYTES`` waits for a slot of ``LargeBodyLimiter``.

        Args:
            url: http or https.
            max_bytes: Largest body; by default that of an image. The timeout grows with it.
            validators: Of an earlier download, for a conditional request.

        Raises:
            RefusedDownloadError: Permanent failure.
            FailedDownloadError: Transient failure.
            NotModifiedError: Unchanged since ``validators``.
        """
        started = time.perf_counter()
        usual = self._settings.max_item_bytes
        limit = usual if max_bytes is None else max_bytes
        timeout_seconds = self._settings.total_timeout_seconds * max(1.0, limit / usual)
        hops: list[URL] = []
        with _attribute_errors(hops), self._transport.translate_errors(timeout_seconds):
            async with (
                asyncio.timeout(timeout_seconds) as deadline,
                AsyncExitStack() as stack,
            ):
                response = await self._open(to_url(url), stack, validators, hops)
                body = Body(response, self._transport, max_bytes=limit)
                content = await self._whole(body, deadline)
        if not content:
            raise RefusedDownloadError(
                "empty_body", "the response has no content", http_status=body.http_status
            )
        self._seconds.observe(time.perf_counter() - started)
        return _to_download(content, response)

    async def _whole(self, body: Body, deadline: asyncio.Timeout) -> bytes:
        pieces, size = [], 0
        async for piece in body:
            pieces.append(piece)
            size += len(piece)
            if size > SMALL_BYTES:
                await self._large_bodies.acquire(deadline)
        return b"".join(pieces)

    @asynccontextmanager
    async def stream(self, url: str, *, max_bytes: int) -> AsyncIterator[Body]:
        """Open a URL, following redirects, and stream its body.

        The caller limits the total time.

        Raises:
            RefusedDownloadError: Permanent failure; also while reading.
            FailedDownloadError: Transient failure; also while reading.
        """
        hops: list[URL] = []
        async with AsyncExitStack() as stack:
            stack.enter_context(_attribute_errors(hops))
            with self._transport.translate_errors():
                response = await self._open(to_url(url), stack, None, hops)
                body = Body(response, self._transport, max_bytes=max_bytes)
            yield body

    async def crawl_delay(self, url: str) -> float | None:
        """Return the ``Crawl-delay`` of a host in seconds, or None.

        Fetches its robots.txt if unknown; failures give None here and are raised by ``get``.
        """
        return await self._robots.crawl_delay(url) if self._robots else None

    async def _open(
        self, url: URL, stack: AsyncExitStack, validators: Validators | None, hops: list[URL]
    ) -> aiohttp.ClientResponse:
        async def permit(hop: URL) -> None:
            hops.append(hop)
            if self._robots:
                await self._robots.check(hop)

        response = await self._transport.open(url, stack, permit, validators)
        unchanged = validators if response.status == HTTPStatus.NOT_MODIFIED else None
        if unchanged is None:
            check_status(response)
        if self._settings.robots_tag == "obey":
            check_robots_tag(response, self._settings.robots_agent)
        if unchanged is not None:
            raise NotModifiedError(response.status, _renewed(unchanged, response))
        return response


@asynccontextmanager
async def open_downloader(
    settings: DownloadSettings,
    *,
    connections: int,
    metrics: DownloadMetrics | None = None,
    resolver: AbstractResolver | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Downloader]:
    """Open a client for an ``async with`` block.

    Args:
        settings: Limits.
        connections: Limit of connections.
        metrics: Counts downloads; None: not exported.
        resolver: Of names; by default the system's.
        tls: TLS context; by default the system's authorities.
    """
    metrics = metrics or DownloadMetrics(CollectorRegistry(), service="unseen")
    async with AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(
            limit=connections,
            resolver=resolver or stack.enter_context(open_resolver()),
            socket_factory=AddressGuard(settings.allowed_private_networks).open_socket,
            ssl=tls or True,
        )
        session = _session(settings, connector)
        transport = Transport(await stack.enter_async_context(session), settings, metrics)
        robots = None
        if settings.robots == "obey":
            robots = RobotsPolicy(
                transport,
                agent=settings.robots_agent,
                timeout_seconds=settings.total_timeout_seconds / 2,
            )
            stack.push_async_callback(robots.close)
        yield Downloader(transport, settings, robots, metrics)


def _session(settings: DownloadSettings, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    agent = settings.user_agent + (f" (+{settings.contact})" if settings.contact else "")
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # it accepts a truncated gzip body: see Body
        trust_env=False,  # a proxy would bypass the address guard
        timeout=aiohttp.ClientTimeout(
            total=None,  # covers the whole chain of redirects: see Downloader.get
            sock_connect=settings.connect_timeout_seconds,
            sock_read=settings.idle_timeout_seconds,
        ),
        max_line_size=_LONGEST_HEADER,
        max_field_size=_LONGEST_HEADER,
        max_headers=_MOST_HEADERS,
        headers={
            "User-Agent": agent,
            "Accept": ",".join([*CONTENT_TYPES, "*/*;q=0.1"]),
            "Accept-Encoding": "identity",
        },
    )


@contextmanager
def _attribute_errors(hops: Sequence[URL]) -> Iterator[None]:
    """Record in a failure the redirect's host that caused it."""
    try:
        yield
    except FailedDownloadError as error:
        hosts = [host_of(str(hop)) for hop in hops]
        if hosts and hosts[-1] != hosts[0]:
            error.host = hosts[-1]
        raise


def _to_download(content: bytes, response: aiohttp.ClientResponse) -> Download:
    headers = response.headers
    return Download(
        content,
        response.status,
        headers.get("Content-Type"),
        etag=clean_etag(headers.get("ETag")),
        last_modified=clean_date(headers.get("Last-Modified")),
        robots_tag=to_detail(", ".join(headers.getall("X-Robots-Tag", ()))) or None,
        final_url=str(response.url),
    )


def _renewed(old: Validators, response: aiohttp.ClientResponse) -> Validators:
    return Validators(
        clean_etag(response.headers.get("ETag")) or old.etag,
        clean_date(response.headers.get("Last-Modified")) or old.last_modified,
        str(response.url),
    )
