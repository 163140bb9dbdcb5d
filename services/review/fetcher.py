"""Client of the fetcher's API."""

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import IO, Any
from urllib.parse import quote

import aiohttp
from aiohttp import ClientSession, FormData

from services.common.adapters.api_session import api_session
from services.common.domain.errors import PermanentError, UnavailableError
from services.review.settings import ReviewSettings

SHOWN_FAILURES = 200
SHOWN_BATCHES = 50


class FetcherUnavailableError(UnavailableError):
    """The fetcher does not answer."""

    code = "fetcher_unavailable"
    dependency = "fetcher"


class FetcherRefusedError(PermanentError):
    """The fetcher refuses the submission.

    Args:
        message: Its explanation.
        rejected: Rejected lines of a list.
    """

    code = "refused_by_fetcher"

    def __init__(self, message: str, rejected: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.rejected = rejected or []


class Fetcher:
    """Client of the fetcher; every method may raise the two errors above."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session

    async def submit(
        self,
        content: IO[bytes] | AsyncIterable[bytes],
        *,
        name: str,
        file_name: str | None = None,
        options: Mapping[str, str],
    ) -> dict[str, Any]:
        """Submit a file; its format follows from the suffix of its name."""
        form = FormData(quote_fields=False)  # otherwise names would be percent-encoded
        form.add_field("name", name[:200])
        form.add_field("file", content, filename=file_name or name)
        return await self._ask("POST", "batches", data=form, params=dict(options))

    async def batches(self, cursor: str | None = None) -> dict[str, Any]:
        """Return a page of batches, newest first."""
        params = {"limit": str(SHOWN_BATCHES)} | ({"cursor": cursor} if cursor else {})
        return await self._ask("GET", "batches", params=params)

    async def batch(self, batch_id: str) -> dict[str, Any]:
        """Return the progress of a batch."""
        return await self._ask("GET", f"batches/{quote(batch_id, safe='')}")

    async def failures(self, batch_id: str) -> list[dict[str, Any]]:
        """Return the first failed items of a batch."""
        params = {"outcome": "failed", "limit": str(SHOWN_FAILURES)}
        page = await self._ask("GET", f"batches/{quote(batch_id, safe='')}/items", params=params)
        items: list[dict[str, Any]] = page["items"]
        return items

    async def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            async with self._session.request(method, path, **request) as response:
                answer = await response.json(content_type=None)
                if response.status >= 500:
                    raise FetcherUnavailableError(f"unexpected status {response.status}")
                if not response.ok:
                    detail = str(answer.get("detail", response.reason))
                    raise FetcherRefusedError(detail, answer.get("rejected"))
                return dict(answer)
        except (aiohttp.ClientError, TimeoutError, ValueError, AttributeError) as error:
            raise FetcherUnavailableError(f"{type(error).__name__}: {error}") from error


@asynccontextmanager
async def open_fetcher(settings: ReviewSettings) -> AsyncIterator[Fetcher]:
    """Open a client for an ``async with`` block; it connects lazily."""
    async with api_session(
        settings.fetcher_url,
        token=settings.fetcher_token,
        timeout_seconds=settings.fetcher_timeout_seconds,
    ) as session:
        yield Fetcher(session)
