"""Store submitted files in their own bucket, and read them like downloads; copy both to disk."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import IO, Protocol

from services.common.adapters.object_store import ObjectStore
from services.common.domain.errors import ObjectNotFoundError
from services.common.domain.objects import ObjectTooLargeError
from services.common.download.client import Download
from services.common.download.errors import FailedDownloadError, RefusedDownloadError
from services.common.download.responses import DEAD_HOST_ATTEMPTS
from services.fetcher.sources.addresses import is_submitted, submitted_digest
from services.fetcher.sources.spool import Spool


class ByteSource(Protocol):
    """A source of downloads."""

    def stream(
        self, url: str, *, max_bytes: int
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a URL and stream its body."""
        ...


async def fetch_to(
    file: IO[bytes],
    source: ByteSource,
    url: str,
    *,
    spool: Spool,
    max_bytes: int,
    timeout_seconds: float,
) -> None:
    """Download a URL into a file of the spool.

    Raises:
        RefusedDownloadError: Permanent failure.
        FailedDownloadError: Transient failure, including a timeout or a full spool.
    """
    try:
        async with (
            asyncio.timeout(timeout_seconds),
            source.stream(url, max_bytes=max_bytes) as pieces,
        ):
            async for piece in pieces:
                await asyncio.to_thread(spool.write, file, piece)
            await asyncio.to_thread(spool.flush, file)
    except TimeoutError as error:
        detail = f"download incomplete after {timeout_seconds:g} s"
        raise FailedDownloadError("timeout", detail, most_attempts=DEAD_HOST_ATTEMPTS) from error


class SubmittedFiles:
    """Stores and reads submitted files, and streams archives, which may be at URLs."""

    def __init__(self, source: ByteSource, store: ObjectStore, *, max_item_bytes: int) -> None:
        self._source = source
        self._store = store
        self._max_item_bytes = max_item_bytes

    async def keep(self, digest: str, file: IO[bytes]) -> None:
        """Store a file under its digest; storing it again renews its expiry.

        Raises:
            ObjectStoreUnavailableError: It was not acknowledged.
        """
        await self._store.write_file(digest, file)

    async def get(self, url: str, *, max_bytes: int | None = None) -> Download:
        """Return the content of a submitted file.

        Raises:
            RefusedDownloadError: Permanent failure, including an expired file.
            ObjectStoreUnavailableError: The object store does not answer.
        """
        try:
            most = self._max_item_bytes if max_bytes is None else max_bytes
            stored = await self._store.read(_key(url), max_bytes=most)
        except ObjectNotFoundError as error:
            raise _gone() from error
        except ObjectTooLargeError as error:
            raise RefusedDownloadError("too_large", str(error)) from error
        return Download(stored.content, 200, None)

    def stream(
        self, url: str, *, max_bytes: int
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a URL or a submitted file, and stream its bytes."""
        if not is_submitted(url):
            return self._source.stream(url, max_bytes=max_bytes)
        return self._stream(url)

    @asynccontextmanager
    async def _stream(self, url: str) -> AsyncIterator[AsyncIterator[bytes]]:
        try:
            async with self._store.stream(_key(url)) as pieces:
                yield pieces
        except ObjectNotFoundError as error:
            raise _gone() from error


def _key(url: str) -> str:
    digest = submitted_digest(url)
    if digest is None:
        raise RefusedDownloadError("invalid_url", "not an address of a submitted file")
    return digest


def _gone() -> RefusedDownloadError:
    return RefusedDownloadError(
        "submitted_file_gone",
        "the submitted file has expired: submit it again",
    )
