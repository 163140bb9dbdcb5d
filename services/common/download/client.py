"""Fetch one URL: safely, within its limits, and with a stable code for whatever goes wrong."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from services.common.download.answers import check_status, redirect_target, to_download_error
from services.common.download.errors import RefusedDownloadError
from services.common.download.guard import AddressGuard
from services.common.download.settings import DownloadSettings
from services.common.download.urls import UnacceptableUrlError, to_url
from services.common.metrics import DOWNLOAD_SECONDS, DOWNLOADED_BYTES

_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Download:
    """A body as received, after decompression."""

    content: bytes
    http_status: int
    content_type: str | None
    """As the host claims."""


class Downloader:
    """Downloads whole bodies into memory.

    Args:
        session: Built by ``open_downloader``, which sets its guard.
        settings: Limits.
    """

    def __init__(self, session: aiohttp.ClientSession, settings: DownloadSettings) -> None:
        self._session = session
        self._settings = settings

    async def get(self, url: str) -> Download:
        """Fetch a URL, following redirects.

        Raises:
            RefusedDownloadError: It fails every time.
            FailedDownloadError: It may work later.
        """
        started = time.perf_counter()
        with self._sorted_errors():
            async with asyncio.timeout(self._settings.total_timeout_seconds):
                download = await self._follow(to_url(url))
        DOWNLOAD_SECONDS.observe(time.perf_counter() - started)
        return download

    @asynccontextmanager
    async def stream(self, url: str, *, max_bytes: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a URL, following redirects, and give its body in pieces, as it comes.

        Its total time is the caller's to limit.

        Raises:
            RefusedDownloadError: It fails every time; also while it is read.
            FailedDownloadError: It may work later; also while it is read.
        """
        async with AsyncExitStack() as stack:
            with self._sorted_errors():
                response = await self._open(to_url(url), stack)
            yield self._pieces(response, max_bytes)

    async def _open(self, url: URL, stack: AsyncExitStack) -> aiohttp.ClientResponse:
        for _ in range(self._settings.max_redirects + 1):
            response = await stack.enter_async_context(
                self._session.get(url, allow_redirects=False)
            )
            target = redirect_target(response)
            if target is None:
                check_status(response.status)
                return response
            response.close()  # a redirect's body is of no interest, and may have no end
            url = target
        raise RefusedDownloadError(
            "too_many_redirects", f"more than {self._settings.max_redirects} redirects"
        )

    async def _pieces(
        self, response: aiohttp.ClientResponse, max_bytes: int
    ) -> AsyncIterator[bytes]:
        size = 0
        with self._sorted_errors():
            async for piece in response.content.iter_chunked(_CHUNK_BYTES):
                size += len(piece)
                DOWNLOADED_BYTES.inc(len(piece))
                if size > max_bytes:
                    response.close()
                    raise _too_large(max_bytes, response.status)
                yield piece

    @contextmanager
    def _sorted_errors(self) -> Iterator[None]:
        try:
            yield
        except UnacceptableUrlError as error:
            raise RefusedDownloadError(error.code, error.detail) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            raise to_download_error(error, self._settings) from error

    async def _follow(self, url: URL) -> Download:
        async with AsyncExitStack() as stack:
            return await self._read(await self._open(url, stack))

    async def _read(self, response: aiohttp.ClientResponse) -> Download:
        limit = self._settings.max_item_bytes
        if (response.content_length or 0) > limit:
            response.close()
            raise _too_large(limit, response.status)
        chunks: list[bytes] = []
        size = 0
        # counted after decompression: Content-Length is no guard against a compressed bomb
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            size += len(chunk)
            DOWNLOADED_BYTES.inc(len(chunk))
            if size > limit:
                response.close()
                raise _too_large(limit, response.status)
            chunks.append(chunk)
        if not size:
            raise RefusedDownloadError(
                "empty_body", "the answer has no content", http_status=response.status
            )
        return Download(b"".join(chunks), response.status, response.headers.get("Content-Type"))


@asynccontextmanager
async def open_downloader(
    settings: DownloadSettings, *, connections: int, resolver: AbstractResolver | None = None
) -> AsyncIterator[Downloader]:
    """Open a client for the length of an ``async with`` block.

    Args:
        settings: Limits.
        connections: Most connections at once.
        resolver: Finds the addresses of names; by default the system's.
    """
    guard = AddressGuard(settings.allowed_private_networks)
    agent = settings.user_agent + (f" (+{settings.contact})" if settings.contact else "")
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=connections, resolver=resolver, socket_factory=guard.open_socket
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,  # a proxy would connect in our place, past the guard
        timeout=aiohttp.ClientTimeout(
            total=None,  # of the whole chain of redirects: see Downloader.get
            sock_connect=settings.connect_timeout_seconds,
            sock_read=settings.idle_timeout_seconds,
        ),
        headers={
            "User-Agent": agent,
            "Accept": "image/*,*/*;q=0.1",
            "Accept-Encoding": "identity",
        },
    ) as session:
        yield Downloader(session, settings)


def _too_large(limit: int, http_status: int) -> RefusedDownloadError:
    return RefusedDownloadError("too_large", f"more than {limit} bytes", http_status=http_status)
