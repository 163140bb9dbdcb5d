"""The fetcher's HTTP API."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from services.common.domain.batch import Batch, RetryScope
from services.common.domain.batch_item import ItemOutcome
from services.common.domain.errors import PipelineError
from services.common.domain.fetcher_answers import (
    BatchDetails,
    BatchPage,
    BatchStatus,
    HostPage,
    ItemPage,
    Preview,
    Retried,
    Submission,
)
from services.common.runtime.access import SiteGuard, require_bearer, to_names
from services.common.runtime.health import Check, health_router
from services.common.runtime.problems import (
    ProblemError,
    install_problem_handlers,
    problem_response,
)
from services.common.runtime.server import BodyGuard
from services.fetcher.answers import to_details, to_item, to_preview, to_status, to_submission
from services.fetcher.batches.references import ListUrlFailedError, ListUrlRefusedError, References
from services.fetcher.batches.repository import BatchNotFoundError
from services.fetcher.batches.service import BatchConflictError, Batches
from services.fetcher.batches.submissions import (
    Description,
    EmptyListError,
    IdempotencyKeyReusedError,
    ListClearedError,
    StrictListError,
    Submissions,
)
from services.fetcher.list_parameters import ListParameters, check_query, list_body
from services.fetcher.politeness.host import HostRepository
from services.fetcher.progress import failed_csv, progress_events
from services.fetcher.settings import FetcherSettings
from services.fetcher.sources.errors import (
    ItemTooLargeError,
    ListTooLargeError,
    UnreadableFileError,
    UnsupportedListFormatError,
)
from services.fetcher.sources.openings import Opened, Openings, default_collection, default_name
from services.fetcher.sources.spool import NoSpaceError, Spool
from services.fetcher.upload import receive

BatchId = Annotated[str, Path(pattern=r"^[0-9A-Za-z-]{1,64}$")]
Limit = Annotated[int, Query(ge=1, le=1000, description="Page size.")]
Cursor = Annotated[
    str | None, Query(pattern=r"^[0-9A-Za-z-]{1,64}$", description="``next`` of the previous page.")
]
ItemCursor = Annotated[
    str | None,
    Query(pattern=r"^[0-9A-Za-z-]{1,64}/[0-9]{10}$", description="``next`` of the previous page."),
]
Spreadsheet = Annotated[
    bool,
    Query(description="For spreadsheets: formulas are escaped; do not submit it again."),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=r"^[!-~]{1,255}$",
        description="The same key and list give the same batch, also after a crash.",
    ),
]


@dataclass(frozen=True)
class AppState:
    """Application state."""

    batches: Batches
    submissions: Submissions
    openings: Openings
    references: References
    spool: Spool
    host_states: HostRepository
    stop: asyncio.Event
    """Ends the progress streams at shutdown."""


def _state(request: Request) -> AppState:
    state: AppState = request.app.state.app_state
    return state


StateDep = Annotated[AppState, Depends(_state)]
router = APIRouter(prefix="/batches", tags=["batches"])
hosts_router = APIRouter(tags=["hosts"])


def build_app(
    settings: FetcherSettings, state: AppState, *, ready: dict[str, Check], alive: dict[str, Check]
) -> FastAPI:
    """Build the application."""
    app = FastAPI(
        title="DocReco fetcher",
        summary="Downloads lists of image URLs into the bucket.",
        # with a token, browsers could not load /docs
        openapi_url=None if settings.api_token else "/openapi.json",
    )
    app.state.app_state = state
    hosts = None if settings.api_token else to_names(settings.hosts)
    app.add_middleware(BodyGuard)
    app.add_middleware(SiteGuard, hosts=hosts, setting="FETCHER_HOSTS")
    install_problem_handlers(app)
    for kind in _STATUS:
        app.add_exception_handler(kind, _on_error)
    app.include_router(health_router(ready=ready, alive=alive))
    token = require_bearer(settings.api_token, setting="FETCHER_API_TOKEN")
    for each in (router, hosts_router):
        app.include_router(each, dependencies=[Depends(token), Depends(check_query)])
    return app


@router.post(
    "",
    status_code=202,
    summary="Submit a list of images",
    openapi_extra=list_body(),
    responses={200: {"model": Preview, "description": "With dry_run."}},
    response_model_exclude_unset=True,
)
async def submit(
    state: StateDep,
    request: Request,
    response: Response,
    query: Annotated[ListParameters, Query()],
    idempotency_key: IdempotencyKey = None,
) -> Submission | Preview:
    """Accept a list, an archive or an image, as an upload or by URL."""
    async with receive(request, state.openings, state.spool, query) as received:
        opened, parameters = received.opened, received.parameters
        described = Description(
            digest=opened.digest,
            name=parameters.name or opened.contents.name,
            idempotency_key=idempotency_key,
            licence=parameters.licence,
            by=parameters.by,
        )
        list_url = opened.contents.list_url
        if list_url is None:
            return await _take(state, opened, described, parameters, response)
        known = None if parameters.dry_run else await state.submissions.answered(described)
        if known is not None:
            return _answer(known, response)
        async with state.references.open(list_url, described, parameters) as (fetched, whole):
            return await _take(state, fetched, whole, parameters, response)


async def _take(
    state: AppState,
    opened: Opened,
    described: Description,
    parameters: ListParameters,
    response: Response,
) -> Submission | Preview:
    if parameters.dry_run:
        response.status_code = 200
        return to_preview(await state.submissions.preview(opened.contents))
    is_made = opened.kind == "archive" and parameters.kind
    kind = parameters.kind if is_made and parameters.kind else opened.kind
    named = parameters.collection or default_collection(opened, kind, described.name)
    is_given = parameters.collection is not None
    whole = replace(
        described,
        name=described.name or default_name(opened, kind),
        kind=kind,
        collection=named,
        is_collection_given=is_given,
    )
    batch = await state.submissions.submit(
        opened.contents, whole, strict=parameters.strict, keep=opened.keep
    )
    return _answer(batch, response)


def _answer(batch: Batch, response: Response) -> Submission:
    status_url = _status_url(batch.id)
    response.headers["Location"] = status_url
    return to_submission(batch, status_url)


@router.get("", summary="List batches, newest first")
async def list_batches(state: StateDep, limit: Limit = 50, cursor: Cursor = None) -> BatchPage:
    """List batches."""
    found = await state.batches.page(after=cursor, limit=limit)
    return BatchPage(
        batches=[to_status(batch) for batch in found],
        next=found[-1].batch.id if len(found) == limit else None,
    )


@router.get("/{batch_id}", summary="Show a batch")
async def show(state: StateDep, batch_id: BatchId) -> BatchDetails:
    """Show a batch."""
    return to_details(await state.batches.find(batch_id))


@router.get("/{batch_id}/items", summary="Show a batch's items", response_model_exclude_unset=True)
async def items(
    state: StateDep,
    batch_id: BatchId,
    outcome: ItemOutcome | None = None,
    limit: Limit = 100,
    cursor: ItemCursor = None,
) -> ItemPage:
    """Show a batch's items, in the list's order."""
    page = await state.batches.items(batch_id, outcome=outcome, after=cursor or "", limit=limit)
    return ItemPage(
        items=[to_item(item) for item in page],
        next=page[-1].id if len(page) == limit else None,
    )


@router.get(
    "/{batch_id}/failed.csv",
    summary="The failed items, as a list that can be submitted again",
    response_class=Response,
    responses={200: {"content": {"text/csv": {}}}},
)
async def failed(
    state: StateDep, batch_id: BatchId, *, spreadsheet: Spreadsheet = False
) -> StreamingResponse:
    """Stream the failed items."""
    found = await state.batches.failed(batch_id)
    rows = failed_csv(found, for_spreadsheet=spreadsheet)
    return StreamingResponse(rows, media_type="text/csv")


@router.get(
    "/{batch_id}/events",
    summary="Follow a batch: server-sent events until it is finished",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def events(state: StateDep, batch_id: BatchId) -> StreamingResponse:
    """Stream the progress of a batch."""
    first = await state.batches.find(batch_id)
    return StreamingResponse(
        progress_events(state.batches, first, state.stop),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store"},
    )


@router.post(
    "/{batch_id}/retry",
    status_code=202,
    summary="Fetch failed items again",
)
async def retry(
    state: StateDep, batch_id: BatchId, scope: RetryScope = RetryScope.TRANSIENT
) -> Retried:
    """Queue failed items again."""
    retried = await state.batches.retry(batch_id, scope)
    return Retried(batch_id=batch_id, retried=retried, status_url=_status_url(batch_id))


@router.post("/{batch_id}/cancel", summary="Cancel queued items")
async def cancel(state: StateDep, batch_id: BatchId) -> BatchStatus:
    """Cancel a batch."""
    await state.batches.cancel(batch_id)
    return to_status(await state.batches.find(batch_id))


@hosts_router.get("/hosts", summary="List paused hosts with reasons")
async def list_hosts(state: StateDep, limit: Limit = 100) -> HostPage:
    """List delayed hosts."""
    return HostPage(hosts=await state.host_states.delayed(limit=limit))


def _status_url(batch_id: str) -> str:
    return f"/batches/{batch_id}"


_STATUS: Mapping[type[PipelineError], int] = {
    IdempotencyKeyReusedError: 422,
    BatchNotFoundError: 404,
    BatchConflictError: 409,
    ListTooLargeError: 413,
    ItemTooLargeError: 413,
    UnsupportedListFormatError: 415,
    UnreadableFileError: 422,
    EmptyListError: 422,
    StrictListError: 422,
    ListUrlRefusedError: 422,
    ListUrlFailedError: 502,
    NoSpaceError: 503,
    ListClearedError: 503,
}
"""HTTP status of each error that a route may raise."""
RETRY_AFTER_SECONDS = 30


async def _on_error(_: Request, error: Exception) -> Response:
    more: dict[str, Any] = {}
    if isinstance(error, UnreadableFileError):
        more["rejected"] = [asdict(row) for row in error.rejected]
    elif isinstance(error, EmptyListError | StrictListError):
        more["rejected"] = [row.model_dump() for row in error.rejections.first]
        more["rejected_count"] = error.rejections.count
        more["reading"] = asdict(error.reading)
    status = next(code for kind, code in _STATUS.items() if isinstance(error, kind))
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status in {502, 503} else None
    code = error.code if isinstance(error, PipelineError) else ""
    return problem_response(ProblemError(status, code, str(error), headers=headers, **more))
