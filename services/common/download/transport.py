"""Opens URLs, hop by hop: each redirect is a request of its own, to be allowed like the first."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Self

import aiohttp
from typing_extensions import override
from yarl import URL

from services.common.download.answers import redirect_target, to_download_error
from services.common.download.decoding import decoder_for
from services.common.download.errors import RefusedDownloadError
from services.common.download.headers import Validators
from services.common.download.metrics import DownloadMetrics
from services.common.download.settings import DownloadSettings
from services.common.download.urls import UnacceptableUrlError

_CHUNK_BYTES = 64 * 1024

Permit = Callable[[URL], Awaitable[None]]
"""Returns where a URL may be asked for; raises a DownloadError where it may not."""


class Transport:
    """Sends requests and follows redirects.

    Args:
        session: With its guard: see ``open_downloader``.
        settings: Limits.
        metrics: Counts the bytes of bodies.

    Attributes:
        received: Counts the bytes of bodies, as they come.
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
        """Return the answer that redirects lead to, whatever its status.

        Args:
            url: Where to begin.
            stack: Closes the answers.
            permit: Asked before each request.
            validators: For a request that is conditional.

        Raises:
            RefusedDownloadError: A redirect leads nowhere, or to what is not fetched.
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
            response.close()  # a redirect's body is of no interest, and may have no end
            url = target
        raise RefusedDownloadError(
            "too_many_redirects", f"more than {self._settings.max_redirects} redirects"
        )

    @contextmanager
    def sorted_errors(self) -> Iterator[None]:
        """Turn what the client raises into download errors."""
        try:
            yield
        except UnacceptableUrlError as error:
            raise RefusedDownloadError(error.code, error.detail) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            raise to_download_error(error, self._settings) from error


class Body(AsyncIterator[bytes]):
    """A body in pieces, as it comes, after decompression.

    Args:
        response: An answer whose status is good.
        transport: It came by.
        max_bytes: More is refused.

    Attributes:
        http_status: What the host answered.
        content_type: As the host claims.
        final_url: Where redirects led to.

    Raises:
        RefusedDownloadError: At once: it is too large, as announced. While it is read: it is
            compressed in an unknown way.
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
        with self._transport.sorted_errors():
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
            # packed bytes count too: they may be endless and hold nothing
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
