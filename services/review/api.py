"""Build the application: routes, middleware, error pages."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError
from starlette.datastructures import URL
from starlette.exceptions import HTTPException

from services.common.domain.errors import PermanentError, UnavailableError
from services.common.domain.texts import Text, text_of_error
from services.common.runtime.health import Check, health_router
from services.common.runtime.problems import ProblemError, install_problem_handlers
from services.review.access import LoginRequiredError, Parts
from services.review.guard import install_guard
from services.review.metrics import STATIC_ROUTE, install_metrics
from services.review.routes import (
    alerts,
    batches,
    images,
    login,
    models,
    overview,
    page_requests,
    pages,
    quality,
    queue,
)
from services.review.sessions import COOKIE

STATIC = Path(__file__).parent / "static"

EXPECTED: tuple[type[Exception], ...] = (
    *(ProblemError, PermanentError, UnavailableError),
    *(RequestValidationError, ValidationError, HTTPException),
)

HTTP_ERRORS: Mapping[int, Text | str] = {
    404: Text("There is no such page."),
    405: Text("This address takes no such request."),
}

log = structlog.stdlib.get_logger(__name__)


def build_app(
    parts: Parts,
    *,
    ready: Mapping[str, Check],
    alive: Mapping[str, Check],
    webhooks: APIRouter | None = None,
) -> FastAPI:
    """Build the application."""
    app = FastAPI(title="DocReco review", openapi_url=None)
    app.state.parts = parts
    install_problem_handlers(app)
    _install_pages_of_errors(app, parts)
    settings = parts.settings
    install_guard(
        app,
        settings.host_names,
        max_upload_bytes=settings.max_upload_bytes,
        refuse=_page_of_error(parts),
    )
    install_metrics(app)
    app.include_router(health_router(ready=ready, alive=alive))
    for module in (
        login,
        overview,
        queue,
        images,
        page_requests,
        pages,
        batches,
        quality,
        models,
        alerts,
    ):
        app.include_router(module.router)
    if webhooks is not None:
        app.include_router(webhooks)
    app.mount(STATIC_ROUTE, StaticFiles(directory=STATIC))
    return app


def _install_pages_of_errors(app: FastAPI, parts: Parts) -> None:
    @app.exception_handler(LoginRequiredError)
    async def on_anonymous(request: Request, _: LoginRequiredError) -> Response:
        is_part = "hx-request" in request.headers
        shown = URL(request.headers.get("hx-current-url", "/")) if is_part else request.url
        then = URL(shown.path).replace(query=shown.query)
        wanted = str(then) if is_part or request.method == "GET" else "/"
        address = str(URL("/login").include_query_params(then=wanted))
        if is_part:
            return Response(status_code=401, headers={"HX-Redirect": address})
        return RedirectResponse(address, status_code=303)

    for kind in EXPECTED:
        app.add_exception_handler(kind, _page_of_error(parts))


def _page_of_error(parts: Parts) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def show(request: Request, error: Exception) -> Response:
        status, code, detail = _said_of(error)
        session = parts.sessions.read(request.cookies.get(COOKIE))
        return parts.pages.for_request(request).page(
            "error", session, status=status, state=status, code=code, detail=detail
        )

    return show


def _said_of(error: Exception) -> tuple[int, str, Text | str]:
    """Return status, code and message of an error."""
    match error:
        case ProblemError():
            return error.status, error.code, error.detail
        case PermanentError():
            return 422, error.code, text_of_error(error)
        case UnavailableError():
            log.warning("dependency unavailable", code=error.code, error=str(error))
            detail = Text("%(server)s does not answer; retry later", {"server": error.dependency})
            return 503, error.code, detail
        case HTTPException():
            return error.status_code, "http_error", HTTP_ERRORS.get(error.status_code, error.detail)
        case _:
            return 422, "invalid_request", Text("invalid address or form")
