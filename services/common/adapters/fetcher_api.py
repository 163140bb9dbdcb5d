"""Client of the fetcher's HTTP API."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from mimetypes import guess_type
from typing import IO, Any, TypeVar
from urllib.parse import quote

import aiohttp
from aiohttp import ClientSession, ClientTimeout, FormData
from pydantic import BaseModel, HttpUrl, SecretStr, ValidationError

from services.common.domain.batch import RetryScope
from services.common.domain.errors import PermanentError, UnavailableError
from services.common.domain.fetcher_answers import (
    AS_FOUND,
    BatchDetails,
    BatchPage,
    HostPage,
    HostStatus,
    ItemPage,
    ItemStatus,
    ListRequest,
    Preview,
    Problem,
    Retried,
    Submission,
)

PAGE_ITEMS = 500

Model = TypeVar("Model", bound=BaseModel)


class FetcherUnavailableError(UnavailableError):
    """The fetcher does not answer, or reports a transient error."""

    code = "fetcher_unavailable"
    dependency = "fetcher"

    def __init__(self, message: str, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.problem = problem


class UnexpectedAnswerError(FetcherUnavailableError):
    """The response is not the fetcher's."""


class FetcherRefusedError(PermanentError):
    """The fetcher refuses the request."""

    code = "refused_by_fetcher"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class FetcherClient:
    """Client of the fetcher; every method may raise FetcherUnavailableError or FetcherRefusedError.

    Args:
        session: With the fetcher's base URL.
        list_seconds: Timeout of a submission: the fetcher answers after it has read the whole list,
            which it may have to download for minutes.
    """

    def __init__(self, session: ClientSession, *, list_seconds: float = 0.0) -> None:
        self._session = session
        usual = session.timeout
        self._patient = ClientTimeout(
            total=None, connect=usual.connect, sock_read=max(usual.sock_read or 0.0, list_seconds)
        )

    async def submit_file(
        self,
        content: IO[bytes] | AsyncIterable[bytes],
        *,
        file_name: str,
        request: ListRequest = AS_FOUND,
        idempotency_key: str | None = None,
    ) -> Submission:
        """Submit a file; a list's format follows from the suffix of its name."""
        form = FormData(quote_fields=False)  # otherwise names would be percent-encoded
        if request.name is not None:
            form.add_field("name", request.name)
        content_type, _ = guess_type(file_name)
        form.add_field("file", content, filename=file_name, content_type=content_type)
        return await self._submit(request, idempotency_key, data=form)

    async def submit_url(
        self,
        list_url: str,
        *,
        request: ListRequest = AS_FOUND,
        idempotency_key: str | None = None,
    ) -> Submission:
        """Submit the URL of a list or of an archive of images."""
        named = {} if request.name is None else {"name": request.name}
        return await self._submit(request, idempotency_key, json={"list_url": list_url, **named})

    async def _submit(
        self, request: ListRequest, idempotency_key: str | None, **body: Any
    ) -> Submission:
        """Submit a list; return a Preview with ``dry_run``."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        kind = Preview if request.dry_run else Submission
        return await self._ask(
            kind,
            "batches",
            method="POST",
            headers=headers,
            timeout=self._patient,
            params=request.params,
            **body,
        )

    async def batch(self, batch_id: str) -> BatchDetails:
        """Return the progress of a batch."""
        return await self._ask(BatchDetails, f"batches/{quote(batch_id, safe='')}")

    async def batches(self, cursor: str | None = None, *, limit: int) -> BatchPage:
        """Return a page of batches, newest first."""
        params = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        return await self._ask(BatchPage, "batches", params=params)

    async def items(
        self, batch_id: str, *, outcome: str | None = None
    ) -> AsyncGenerator[ItemStatus]:
        """Yield the items of a batch, all or those with an outcome."""
        path = f"batches/{quote(batch_id, safe='')}/items"
        params = {"limit": str(PAGE_ITEMS)} | ({"outcome": outcome} if outcome else {})
        while True:
            page = await self._ask(ItemPage, path, params=params)
            for item in page.items:
                yield item
            if page.next is None:
                return
            params["cursor"] = page.next

    async def retry(self, batch_id: str, scope: RetryScope) -> int:
        """Fetch failed items of a batch again; return how many."""
        path, params = f"batches/{quote(batch_id, safe='')}/retry", {"scope": scope.value}
        return (await self._ask(Retried, path, method="POST", params=params)).retried

    async def hosts(self, *, limit: int) -> list[HostStatus]:
        """Return the paused hosts, the longest pause first."""
        return (await self._ask(HostPage, "hosts", params={"limit": str(limit)})).hosts

    async def _ask(
        self, kind: type[Model], path: str, *, method: str = "GET", **request: Any
    ) -> Model:
        try:
            async with self._session.request(method, path, **request) as response:
                if not response.ok:
                    raise await _refusal(response)
                return kind.model_validate(await response.json())
        except (TimeoutError, aiohttp.ClientConnectionError, ConnectionError) as error:
            raise FetcherUnavailableError(f"{type(error).__name__}: {error}") from error
        except ValidationError as error:
            detail = f"{error.error_count()} invalid fields"
            raise UnexpectedAnswerError(detail) from error
        except (aiohttp.ClientError, ValueError) as error:
            raise UnexpectedAnswerError(str(error)) from error


@asynccontextmanager
async def open_fetcher(
    url: HttpUrl, *, token: SecretStr | None, timeout_seconds: float, list_seconds: float = 0.0
) -> AsyncIterator[FetcherClient]:
    """Open a client for an ``async with`` block; it connects lazily.

    Args:
        url: Address of the fetcher.
        token: Its token, if any.
        timeout_seconds: Connect and read timeout.
        list_seconds: See FetcherClient.
    """
    base = f"{str(url).rstrip('/')}/"
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    timeout = ClientTimeout(total=None, connect=timeout_seconds, sock_read=timeout_seconds)
    async with ClientSession(base, headers=headers, timeout=timeout) as session:
        yield FetcherClient(session, list_seconds=list_seconds)


async def _refusal(
    response: aiohttp.ClientResponse,
) -> FetcherRefusedError | FetcherUnavailableError:
    try:
        said = await response.json(content_type=None)
    except ValueError:
        said = None
    if not isinstance(said, Mapping):
        said = {}
    given = {name: said[name] for name in ("code", "detail") if said.get(name) is not None}
    listed = said.get("rejected") or said.get("errors") or []
    lines = [each for each in listed if isinstance(each, Mapping) and "line" in each]
    try:
        problem = Problem.model_validate(
            {"code": str(response.reason), **given, "status": response.status, "rejected": lines}
        )
    except ValidationError:
        problem = Problem(status=response.status, code=str(response.reason))
    if response.status >= 500:
        return FetcherUnavailableError(f"unexpected status {response.status}", problem)
    return FetcherRefusedError(problem)
