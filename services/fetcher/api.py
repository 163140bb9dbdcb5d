"""The fetcher's HTTP API."""

import asyncio
from dataclasses import asdict, replace
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from services.common.domain.batch import Batch, RetryScope
from services.common.domain.batch_item import ItemOutcome
from services.common.runtime.access import require_bearer
from services.common.runtime.bodies import BodyGuard
from services.common.runtime.health import Check, health_router
from services.common.runtime.problems import (
    ProblemError,
    install_problem_handlers,
    problem_response,
)
from services.common.runtime.site_guard import SiteGuard, to_names
from services.fetcher import schemas
from services.fetcher.batches.references import RETRY_AFTER_SECONDS, References
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
from services.fetcher.politeness.repository import HostRepository
from services.fetcher.progress import failed_csv, progress_events
from services.fetcher.settings import FetcherSettings
from services.fetcher.sources.lists.rows import MalformedListError
from services.fetcher.sources.openings import Opened, Openings, default_collection
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


def build_app(
    settings: FetcherSettings,
    batches: Batches,
    submissions: Submissions,
    *,
    openings: Openings,
    references: References,
    spool: Spool,
    host_states: HostRepository,
    ready: dict[str, Check],
    alive: dict[str, Check],
    stop: asyncio.Event,
) -> FastAPI:
    """Build the application.

    Args:
        settings: Token and limits.
        batches: Service of batches.
        submissions: Accepts lists.
        openings: Opens uploads.
        references: Downloads lists by URL.
        spool: Temporary files of lists.
        host_states: Repository of paused hosts.
        ready: For /readyz.
        alive: For /livez.
        stop: Ends the progress streams at shutdown.
    """
    app = FastAPI(
        title="DocReco fetcher",
        summary="Downloads lists of image URLs into the bucket.",
        # with a token, browsers could not load /docs
        openapi_url=None if settings.api_token else "/openapi.json",
    )
    hosts = None if settings.api_token else to_names(settings.hosts)
    app.add_middleware(BodyGuard)
    app.add_middleware(SiteGuard, hosts=hosts, setting="FETCHER_HOSTS")
    install_problem_handlers(app)
    _install_own_problems(app)
    app.include_router(health_router(ready=ready, alive=alive))
    guards = [
        Depends(require_bearer(settings.api_token, setting="FETCHER_API_TOKEN")),
        Depends(check_query),
    ]
    router = APIRouter(tags=["batches"], dependencies=guards)
    _add_submission(router, submissions, openings, references, spool)
    _add_reading(router, batches, stop)
    _add_actions(router, batches)
    _add_hosts(router, host_states)
    app.include_router(router)
    return app


def _add_submission(
    router: APIRouter,
    submissions: Submissions,
    openings: Openings,
    references: References,
    spool: Spool,
) -> None:
    @router.post(
        "/batches",
        status_code=202,
        summary="Submit a list of images",
        openapi_extra=list_body(),
        responses={200: {"model": schemas.Preview, "description": "With dry_run."}},
    )
    async def submit(
        request: Request,
        response: Response,
        query: Annotated[ListParameters, Query()],
        idempotency_key: IdempotencyKey = None,
    ) -> schemas.Submitted | schemas.Preview:
        async with receive(request, openings, spool, query) as received:
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
                return await take(opened, described, parameters, response)
            known = None if parameters.dry_run else await submissions.answered(described)
            if known is not None:
                return answer(known, response)
            async with references.open(list_url, described, parameters) as (fetched, whole):
                return await take(fetched, whole, parameters, response)

    async def take(
        opened: Opened, described: Description, parameters: ListParameters, response: Response
    ) -> schemas.Submitted | schemas.Preview:
        if parameters.dry_run:
            response.status_code = 200
            return schemas.to_preview(await submissions.preview(opened.contents))
        is_made = opened.kind == "archive" and parameters.kind
        kind = parameters.kind if is_made and parameters.kind else opened.kind
        named = parameters.collection or default_collection(opened, kind, described.name)
        whole = replace(described, kind=kind, collection=named)
        batch = await submissions.submit(
            opened.contents, whole, strict=parameters.strict, keep=opened.keep
        )
        return answer(batch, response)

    def answer(batch: Batch, response: Response) -> schemas.Submitted:
        status_url = _status_url(batch.id)
        response.headers["Location"] = status_url
        return schemas.to_submitted(batch, status_url)


def _add_reading(router: APIRouter, batches: Batches, stop: asyncio.Event) -> None:
    @router.get("/batches", summary="List batches, newest first")
    async def list_batches(limit: Limit = 50, cursor: Cursor = None) -> schemas.BatchPage:
        found = await batches.page(after=cursor, limit=limit)
        return schemas.BatchPage(
            batches=[schemas.to_status(batch) for batch in found],
            next=found[-1].batch.id if len(found) == limit else None,
        )

    @router.get("/batches/{batch_id}", summary="Show a batch")
    async def show(batch_id: BatchId) -> schemas.BatchStatus:
        return schemas.to_status(await batches.find(batch_id))

    @router.get("/batches/{batch_id}/items", summary="Show a batch's items")
    async def items(
        batch_id: BatchId,
        outcome: ItemOutcome | None = None,
        limit: Limit = 100,
        cursor: ItemCursor = None,
    ) -> schemas.ItemPage:
        page = await batches.items(batch_id, outcome=outcome, after=cursor or "", limit=limit)
        return schemas.ItemPage(
            items=[schemas.to_item(item) for item in page],
            next=page[-1].id if len(page) == limit else None,
        )

    @router.get(
        "/batches/{batch_id}/failed.csv",
        summary="The failed items, as a list that can be submitted again",
        response_class=Response,
        responses={200: {"content": {"text/csv": {}}}},
    )
    async def failed(batch_id: BatchId, *, spreadsheet: Spreadsheet = False) -> StreamingResponse:
        found = await batches.failed(batch_id)
        rows = failed_csv(found, for_spreadsheet=spreadsheet)
        return StreamingResponse(rows, media_type="text/csv")

    @router.get(
        "/batches/{batch_id}/events",
        summary="Follow a batch: server-sent events until it is finished",
        response_class=Response,
        responses={200: {"content": {"text/event-stream": {}}}},
    )
    async def events(batch_id: BatchId) -> StreamingResponse:
        first = await batches.find(batch_id)
        return StreamingResponse(
            progress_events(batches, first, stop),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )


def _add_actions(router: APIRouter, batches: Batches) -> None:
    @router.post("/batches/{batch_id}/retry", status_code=202, summary="Fetch failed items again")
    async def retry(batch_id: BatchId, scope: RetryScope = RetryScope.TRANSIENT) -> schemas.Retried:
        retried = await batches.retry(batch_id, scope)
        return schemas.Retried(batch_id=batch_id, retried=retried, status_url=_status_url(batch_id))

    @router.post("/batches/{batch_id}/cancel", summary="Cancel queued items")
    async def cancel(batch_id: BatchId) -> schemas.BatchStatus:
        await batches.cancel(batch_id)
        return schemas.to_status(await batches.find(batch_id))


def _add_hosts(router: APIRouter, host_states: HostRepository) -> None:
    @router.get("/hosts", tags=["hosts"], summary="List paused hosts with reasons")
    async def list_hosts(limit: Limit = 100) -> schemas.HostPage:
        found = await host_states.delayed(limit=limit)
        return schemas.HostPage(hosts=[schemas.HostStatus(**vars(host)) for host in found])


def _status_url(batch_id: str) -> str:
    return f"/batches/{batch_id}"


def _install_own_problems(app: FastAPI) -> None:
    @app.exception_handler(MalformedListError)
    async def on_malformed(_: Request, error: MalformedListError) -> Response:
        rejected = [asdict(row) for row in error.rejected]
        return problem_response(ProblemError(422, error.code, error.detail, rejected=rejected))

    @app.exception_handler(EmptyListError)
    @app.exception_handler(StrictListError)
    async def on_refused(_: Request, error: EmptyListError | StrictListError) -> Response:
        rejected = [row.model_dump() for row in error.rejections.first]
        count = error.rejections.count
        reading = schemas.Reading.model_validate(error.reading).model_dump()
        return problem_response(
            ProblemError(
                422,
                error.code,
                str(error),
                rejected=rejected,
                rejected_count=count,
                reading=reading,
            )
        )

    @app.exception_handler(NoSpaceError)
    @app.exception_handler(ListClearedError)
    async def on_passing(_: Request, error: NoSpaceError | ListClearedError) -> Response:
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        return problem_response(ProblemError(503, error.code, str(error), headers=headers))

    @app.exception_handler(IdempotencyKeyReusedError)
    async def on_reused(_: Request, error: IdempotencyKeyReusedError) -> Response:
        return problem_response(ProblemError(422, error.code, str(error)))

    @app.exception_handler(BatchNotFoundError)
    async def on_not_found(_: Request, error: BatchNotFoundError) -> Response:
        return problem_response(ProblemError(404, error.code, str(error)))

    @app.exception_handler(BatchConflictError)
    async def on_conflict(_: Request, error: BatchConflictError) -> Response:
        return problem_response(ProblemError(409, error.code, str(error)))
