"""Open URLs hop by hop: each redirect is checked like the first request."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from math import inf
from typing import Self

import aiohttp
from prometheus_client import CollectorRegistry, Counter, Histogram
from typing_extensions import override
from yarl import URL

from services.common.download.decoding import decoder_for
from services.common.download.errors import RefusedDownloadError
from services.common.download.responses import Validators, redirect_target, to_download_error
from services.common.download.settings import DownloadSettings
from services.common.download.urls import UnacceptableUrlError

_EDGES = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

_CHUNK_BYTES = 64 * 1024

Permit = Callable[[URL], Awaitable[None]]
"""Raises a DownloadError unless a URL may be requested."""


class DownloadMetrics:
    """Metrics of one service's downloads.

    Args:
        registry: Where they are registered, once.
        service: First word of their names.
    """

    def __init__(self, registry: CollectorRegistry, *, service: str) -> None:
        self.bytes = Counter(
            f"{service}_download_bytes_total",
            "Bytes of bodies read from hosts.",
            registry=registry,
        )
        self.seconds = Histogram(
            f"{service}_download_duration_seconds",
            "Time from request to the end of the body.",
            buckets=_EDGES,
            registry=registry,
        )


class Transport:
    """Sends requests and follows redirects.

    Args:
        session: With its guard: see ``open_downloader``.
        settings: Limits.
        metrics: Counts the bytes of bodies.

    Attributes:
        received: Counts received bytes of bodies.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: DownloadSettings,
        metrics: DownloadMetrics,
    ) -> None:
        self._session = session
        self._settings = settings
        self.received = metrics.bytes

    async def open(
        self, url: URL, stack: AsyncExitStack, permit: Permit, validators: Validators | None = None
    ) -> aiohttp.ClientResponse:
        """Return the response after redirects, with any status.

        Args:
            url: First URL.
            stack: Closes the responses.
            permit: Called before each request.
            validators: For a conditional request.

        Raises:
            RefusedDownloadError: A redirect is invalid or not allowed.
        """
        for hop in range(self._settings.max_redirects + 1):
            await permit(url)
            headers = validators.conditions(url, is_first=hop == 0) if validators else None
            response = await stack.enter_async_context(
                self._session.get(url, allow_redirects=False, headers=headers)
            )
            target = redirect_target(response)
            if target is None:
                return response
            response.close()  # the body of a redirect is not needed and may be endless
            url = target
        raise RefusedDownloadError(
            "too_many_redirects", f"more than {self._settings.max_redirects} redirects"
        )

    @contextmanager
    def translate_errors(self, total_seconds: float = inf) -> Iterator[None]:
        """Translate the client's exceptions into download errors.

        Args:
            total_seconds: Limit of the block, for the error's text.
        """
        try:
            yield
        except UnacceptableUrlError as error:
            raise RefusedDownloadError(error.code, error.detail) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            raise to_download_error(error, self._settings, total_seconds) from error


class Body(AsyncIterator[bytes]):
    """A streamed body, after decompression.

    Args:
        response: A successful response.
        transport: Its transport.
        max_bytes: Limit.

    Attributes:
        http_status: Of the response.
        content_type: As declared by the host.
        final_url: After redirects.

    Raises:
        RefusedDownloadError: At once: the declared length is too large. While reading: the coding
            is unsupported.
    """

    def __init__(
        self, response: aiohttp.ClientResponse, transport: Transport, *, max_bytes: int
    ) -> None:
        self.http_status = response.status
        self.content_type = response.headers.get("Content-Type")
        self.final_url = str(response.url)
        self._response = response
        self._transport = transport
        self._decoder = decoder_for(", ".join(response.headers.getall("Content-Encoding", ())))
        self._pieces = self._read()
        self._size = 0
        self._max_bytes = max_bytes
        if (response.content_length or 0) > max_bytes:
            raise self._too_large()

    @override
    def __aiter__(self) -> Self:
        return self

    @override
    async def __anext__(self) -> bytes:
        with self._transport.translate_errors():
            return await anext(self._pieces)

    async def _read(self) -> AsyncIterator[bytes]:
        received_bytes = 0
        async for received in self._response.content.iter_chunked(_CHUNK_BYTES):
            self._transport.received.inc(len(received))
            received_bytes += len(received)
            for piece in self._limited(self._decoder.decode(received), received_bytes):
                yield piece
        for piece in self._limited(self._decoder.finish(), received_bytes):
            yield piece

    def _limited(self, pieces: Iterator[bytes], received_bytes: int) -> Iterator[bytes]:
        for piece in pieces:
            self._size += len(piece)
            # compressed bytes count too: they may be endless and decode to nothing
            if max(self._size, received_bytes) > self._max_bytes:
                raise self._too_large()
            if piece:
                yield piece
        if received_bytes > self._max_bytes:
            raise self._too_large()

    def _too_large(self) -> RefusedDownloadError:
        self._response.close()
        return RefusedDownloadError(
            "too_large", f"more than {self._max_bytes} bytes", http_status=self.http_status
        )


class LargeBodyLimiter:
    """Limits the tasks that hold a large body; a task keeps its slot until it ends."""

    def __init__(self, tasks: int) -> None:
        self._free = asyncio.Semaphore(tasks)
        self._holders: set[asyncio.Task[object]] = set()

    async def acquire(self, deadline: asyncio.Timeout) -> None:
        """Wait for a slot of the current task.

        Args:
            deadline: Of the download; suspended meanwhile, as the wait is not the host's fault.
        """
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        if task is None or task in self._holders:
            return
        ends, began = deadline.when(), loop.time()
        deadline.reschedule(None)
        await self._free.acquire()
        self._holders.add(task)
        task.add_done_callback(self._release)
        if ends is not None:
            deadline.reschedule(ends + loop.time() - began)

    def _release(self, task: asyncio.Task[object]) -> None:
        self._holders.discard(task)
        self._free.release()
