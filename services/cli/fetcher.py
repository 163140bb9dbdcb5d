"""Client of the fetcher's API."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import IO, Any, Self, TypeVar
from urllib.parse import quote

import aiohttp
from aiohttp import ClientSession, ClientTimeout, FormData
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.cli.errors import (
    CommandError,
    ExitStatus,
    RefusedError,
    ServiceDownError,
    address_of,
    reason_of,
)
from services.cli.settings import CliSettings
from services.common.adapters.api_session import api_session
from services.common.domain.tables.table import Report

SERVICE = "The fetcher"
PAGE_ITEMS = 500
SHOWN_LINES = 10
COLUMN_HINT = "On the command line: --url-column NAME, --text-column NAME, "
"--group-column NAME."
LIST_SECONDS = 1800.0
"""So long a list is waited for: the fetcher answers when it has read it whole, and may take minutes
to get one, or an archive, from its address. Who gave up sooner would submit it twice."""

Model = TypeVar("Model", bound=BaseModel)


class Rejection(BaseModel):
    """A line of a list that was not accepted."""

    line: int | None = None
    value: str = ""
    code: str
    detail: str = ""


class Submission(BaseModel):
    """The answer to a list."""

    model_config = ConfigDict(extra="allow")

    batch_id: str
    accepted: int
    rejected: list[Rejection] = Field(default_factory=list)
    """The first ones, where there are very many."""
    rejected_count: int = 0
    status_url: str = ""
    reading: Report = Field(default_factory=Report)
    """How the list was read."""

    @model_validator(mode="after")
    def _count(self) -> Self:
        self.rejected_count = max(self.rejected_count, len(self.rejected))
        return self


class PreviewRow(BaseModel):
    """A row as it would be taken."""

    line: int
    url: str
    name: str | None = None
    annotation: str | None = None

    @property
    def label(self) -> str:
        """The name that a person knows."""
        return self.name or self.url


class Preview(Submission):
    """The answer to a list of which nothing was kept."""

    batch_id: str = ""
    rows: list[PreviewRow] = Field(default_factory=list)


@dataclass(frozen=True)
class ListRequest:
    """How a list is to be taken; see the fetcher's API."""

    name: str | None = None
    collection: str | None = None
    encoding: str | None = None
    url_column: str | None = None
    text_column: str | None = None
    group_column: str | None = None
    licence: str | None = None
    kind: str | None = None
    strict: bool = False
    dry_run: bool = False

    @property
    def params(self) -> dict[str, str]:
        """As parameters of an address."""
        given = {**asdict(self), "name": None}  # which is in the body
        return {name: str(value) for name, value in given.items() if value}


AS_FOUND = ListRequest()


class Batch(BaseModel):
    """How far a batch is."""

    model_config = ConfigDict(extra="allow")

    batch_id: str
    state: str
    counts: dict[str, int]
    failure_codes: dict[str, int] = {}
    size_bytes: int = 0

    @property
    def total(self) -> int:
        """Number of its items."""
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        """Number of items with an outcome."""
        return self.total - self.counts.get("queued", 0)

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state != "running"


class Item(BaseModel):
    """An item of a batch, and what came of it."""

    model_config = ConfigDict(extra="allow")

    url: str
    name: str | None = None
    outcome: str
    code: str | None = None
    detail: str | None = None
    key: str | None = None
    attempts: int | None = None

    @property
    def label(self) -> str:
        """The name that a person knows."""
        return self.name or self.url


class DelayedHost(BaseModel):
    """A host that is not asked now."""

    model_config = ConfigDict(extra="allow")

    host: str
    reason: str
    until: datetime


class _HostPage(BaseModel):
    hosts: list[DelayedHost]


class _ItemPage(BaseModel):
    items: list[Item]
    next: str | None = None


class FetcherClient:
    """Asks the fetcher; every method raises what ``errors`` lists where it fails."""

    def __init__(self, session: ClientSession, base_url: str) -> None:
        self._session = session
        self._base_url = base_url

    async def submit_file(
        self,
        content: IO[bytes] | AsyncIterable[bytes],
        *,
        file_name: str,
        request: ListRequest = AS_FOUND,
        idempotency_key: str | None = None,
    ) -> Submission:
        """Send a file; of a list, the ending of its name says the format."""
        form = FormData(quote_fields=False)  # or names would be percent-encoded
        if request.name is not None:
            form.add_field("name", request.name)
        form.add_field("file", content, filename=file_name)
        return await self._submit(request, idempotency_key, data=form)

    async def submit_url(
        self,
        list_url: str,
        *,
        request: ListRequest = AS_FOUND,
        idempotency_key: str | None = None,
    ) -> Submission:
        """Let the fetcher get a list, or an archive of images, by itself."""
        named = {} if request.name is None else {"name": request.name}
        return await self._submit(request, idempotency_key, json={"list_url": list_url, **named})

    async def _submit(
        self, request: ListRequest, idempotency_key: str | None, **body: Any
    ) -> Submission:
        """Submit a list; with ``dry_run`` the answer is a Preview."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        usual = self._session.timeout
        patient = ClientTimeout(
            total=None,
            connect=usual.connect,
            sock_read=max(usual.sock_read or 0.0, LIST_SECONDS),
        )
        answer = await self._ask(
            "POST", "batches", headers=headers, timeout=patient, params=request.params, **body
        )
        return _parsed(Preview if request.dry_run else Submission, answer)

    async def batch(self, batch_id: str) -> Batch:
        """Return how far a batch is."""
        return _parsed(Batch, await self._ask("GET", f"batches/{quote(batch_id, safe='')}"))

    async def items(self, batch_id: str, *, outcome: str | None = None) -> AsyncIterator[Item]:
        """Yield the items of a batch, all or those with an outcome."""
        path = f"batches/{quote(batch_id, safe='')}/items"
        params = {"limit": str(PAGE_ITEMS)} | ({"outcome": outcome} if outcome else {})
        while True:
            page = _parsed(_ItemPage, await self._ask("GET", path, params=params))
            for item in page.items:
                yield item
            if page.next is None:
                return
            params["cursor"] = page.next

    async def hosts(self, *, limit: int) -> list[DelayedHost]:
        """Return the hosts that are not asked now, those that are longest away first."""
        answer = await self._ask("GET", "hosts", params={"limit": str(limit)})
        return _parsed(_HostPage, answer).hosts

    async def _ask(self, method: str, path: str, **request: Any) -> Any:
        try:
            async with self._session.request(method, path, **request) as response:
                if not response.ok:
                    raise await _refusal(response)
                return await response.json()
        except (TimeoutError, aiohttp.ClientConnectionError, ConnectionError) as error:
            raise ServiceDownError(
                SERVICE,
                address_of(self._base_url),
                setting="DOCRECO_FETCHER_URL",
                reason=reason_of(error),
            ) from error
        except (aiohttp.ClientError, ValueError) as error:
            raise _not_the_fetcher(str(error)) from error


@asynccontextmanager
async def open_fetcher(settings: CliSettings) -> AsyncIterator[FetcherClient]:
    """Open a client for the length of an ``async with`` block; nothing is sent yet."""
    async with api_session(
        settings.fetcher_url, token=settings.fetcher_token, timeout_seconds=settings.timeout_seconds
    ) as session:
        yield FetcherClient(session, str(settings.fetcher_url))


async def failures(fetcher: FetcherClient, batch_id: str) -> list[Item]:
    """Return the failed items of a batch."""
    return [item async for item in fetcher.items(batch_id, outcome="failed")]


async def polled(
    fetcher: FetcherClient, batch_id: str, *, every_seconds: float
) -> AsyncIterator[Batch]:
    """Yield how far a batch is until it is finished."""
    while True:
        batch = await fetcher.batch(batch_id)
        yield batch
        if batch.is_finished:
            return
        await asyncio.sleep(every_seconds)


async def _refusal(response: aiohttp.ClientResponse) -> RefusedError:
    try:
        problem = await response.json(content_type=None)
    except ValueError:
        problem = None
    if not isinstance(problem, Mapping):
        problem = {}
    listed = problem.get("rejected") or []
    codes = {each.get("code") for each in listed if isinstance(each, Mapping)}
    return RefusedError(
        SERVICE,
        response.status,
        code=str(problem.get("code", response.reason)),
        detail=str(problem.get("detail", "no details")),
        lines=_lines(problem),
        hint=COLUMN_HINT if "no_url_column" in codes else "",
    )


def _lines(problem: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a problem says of lines of a list, the first few."""
    listed = problem.get("rejected") or problem.get("errors") or []
    told = [
        f"line {each['line']}: {each.get('detail') or each.get('code')}"
        for each in listed
        if isinstance(each, Mapping)
        and "line" in each
        and each.get("detail") != problem.get("detail")  # a list that can't be read at all
    ]
    rest = len(told) - SHOWN_LINES
    return (*told[:SHOWN_LINES], *([f"and {rest} more"] if rest > 0 else []))


def _parsed(model: type[Model], answer: Any) -> Model:
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        raise _not_the_fetcher(f"{error.error_count()} fields are not as expected") from error


def _not_the_fetcher(reason: str) -> CommandError:
    return CommandError(
        f"The answer is not the fetcher's: {reason}",
        status=ExitStatus.REFUSED,
        hint="Check that DOCRECO_FETCHER_URL is the address of the fetcher.",
    )
