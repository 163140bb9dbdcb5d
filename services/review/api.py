"""Build the application: routes, middleware, error pages."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
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
from services.review.access import AppState, LoginRequiredError
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

MOST_SHOWN = 100
"""Characters of a wrong value."""
PLACES = frozenset({"query", "path", "header", "cookie", "body", "form"})
"""Names of where parameters stand."""
_ONE_OF = Text("it must be one of %(expected)s")
_TOO_LONG = Text("it has more than %(max_length)s characters")
_NO_NUMBER = Text("it is not a number")
_NO_TIME = Text("it is not a time; write 2026-11-29 or 2026-11-29T08:00")
INVALID: Mapping[str, Text] = {
    "literal_error": _ONE_OF,
    "enum": _ONE_OF,
    "float_parsing": _NO_NUMBER,
    "int_parsing": _NO_NUMBER,
    "int_from_float": _NO_NUMBER,
    "datetime_parsing": _NO_TIME,
    "datetime_from_date_parsing": _NO_TIME,
    "bool_parsing": Text("it must be true or false"),
    "greater_than_equal": Text("it must be at least %(ge)s"),
    "less_than_equal": Text("it must be at most %(le)s"),
    "string_too_long": _TOO_LONG,
    "too_long": _TOO_LONG,
    "string_too_short": Text("it is empty"),
}
"""By the type of a problem, with its limits as values (pydantic's ``ctx``)."""

log = structlog.stdlib.get_logger(__name__)


def build_app(
    state: AppState,
    *,
    ready: Mapping[str, Check],
    alive: Mapping[str, Check],
    webhooks: APIRouter | None = None,
) -> FastAPI:
    """Build the application."""
    app = FastAPI(title="DocReco review", openapi_url=None)
    app.state.app_state = state
    install_problem_handlers(app)
    _install_pages_of_errors(app, state)
    settings = state.settings
    install_guard(
        app,
        settings.host_names,
        max_upload_bytes=settings.max_upload_bytes,
        refuse=_page_of_error(state),
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


def _install_pages_of_errors(app: FastAPI, state: AppState) -> None:
    @app.exception_handler(LoginRequiredError)
    async def on_anonymous(request: Request, _: LoginRequiredError) -> Response:
        is_part = "hx-request" in request.headers
        shown = URL(request.headers.get("hx-current-url", "/")) if is_part else request.url
        then = URL(shown.path).replace(query=shown.query)
        # The address of an answer, without scripts, leads to the queue with its filters
        can_be_shown = is_part or request.method == "GET" or then.path == "/queue/answer"
        wanted = str(then) if can_be_shown else "/"
        address = str(URL("/login").include_query_params(then=wanted))
        if is_part:
            return Response(status_code=401, headers={"HX-Redirect": address})
        return RedirectResponse(address, status_code=303)

    for kind in EXPECTED:
        app.add_exception_handler(kind, _page_of_error(state))


def _page_of_error(state: AppState) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def show(request: Request, error: Exception) -> Response:
        status, code, detail = _describe(error)
        session = state.sessions.read(request.cookies.get(COOKIE))
        return state.templates.for_request(request).render(
            "error", session, status=status, state=status, code=code, detail=detail
        )

    return show


def _describe(error: Exception) -> tuple[int, str, Text | str]:
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
            return 422, "invalid_request", _describe_invalid(error)


def _describe_invalid(error: Exception) -> Text:
    """Say which parameter of an address or form is wrong, what it is, and why."""
    found = error.errors() if isinstance(error, RequestValidationError | ValidationError) else []
    if not found or not (place := [part for part in found[0]["loc"] if part not in PLACES]):
        return Text("invalid address or form")
    problem, limits = found[0], found[0].get("ctx", {})
    name = str(place[0])
    if problem["type"] == "missing":
        return Text("the parameter %(name)s is missing", {"name": name})
    why: Text | str = INVALID.get(problem["type"], Text("it is not valid"))
    if isinstance(cause := limits.get("error"), Exception):
        why = text_of_error(cause)
    elif isinstance(why, Text):
        why = replace(why, values={key: str(value) for key, value in limits.items()})
    given = problem["input"]
    value = ", ".join(map(str, given)) if isinstance(given, list | tuple) else str(given)
    said = {"name": name, "value": value[:MOST_SHOWN], "why": why}
    return Text("%(name)s can\u2019t be \u201c%(value)s\u201d: %(why)s", said)
