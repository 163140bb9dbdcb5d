"""RFC 9457 problem details: every error response of every service, with a stable ``code``."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from services.common.domain.errors import UnavailableError

log = structlog.stdlib.get_logger(__name__)

MOST_SHOWN = 100
"""Characters of a wrong value in a message."""
MEDIA_TYPE = "application/problem+json"


class ProblemError(Exception):
    """An error response, raised anywhere below a route.

    Args:
        status: HTTP status.
        code: Stable name for machines.
        detail: One sentence for the person who sent the request.
        headers: Extra response headers.
        extra: Further members of the problem object.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers
        self.extra = extra


def problem_response(problem: ProblemError) -> JSONResponse:
    """Return the ``application/problem+json`` response (RFC 9457)."""
    return JSONResponse(
        {
            "type": "about:blank",
            "title": HTTPStatus(problem.status).phrase,
            "status": problem.status,
            "code": problem.code,
            "detail": problem.detail,
            **problem.extra,
        },
        status_code=problem.status,
        headers=problem.headers,
        media_type=MEDIA_TYPE,
    )


def install_problem_handlers(app: FastAPI) -> None:
    """Return all errors of ``app`` as problems: its own, the framework's and unexpected ones."""

    @app.exception_handler(ProblemError)
    async def on_problem(_: Request, error: ProblemError) -> JSONResponse:
        return problem_response(error)

    @app.exception_handler(UnavailableError)
    async def on_unavailable(_: Request, error: UnavailableError) -> JSONResponse:
        log.warning("dependency unavailable", code=error.code, error=str(error))
        detail = f"{error.dependency} does not answer; retry later"
        return problem_response(ProblemError(503, error.code, detail, headers={"Retry-After": "5"}))

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        problems = [
            {"where": ".".join(str(part) for part in item["loc"]), "detail": item["msg"]}
            for item in error.errors()
        ]
        first = f"{problems[0]['where']}: {problems[0]['detail']}" if problems else "bad request"
        if problems and isinstance(value := error.errors()[0].get("input"), str | int | float):
            first += f", not {str(value)[:MOST_SHOWN]!r}"
        return problem_response(ProblemError(422, "invalid_request", first, errors=problems[:100]))

    @app.exception_handler(HTTPException)
    async def on_http(_: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return problem_response(
            ProblemError(error.status_code, code, str(error.detail), headers=error.headers)
        )

    @app.exception_handler(ClientDisconnect)
    async def on_disconnect(_: Request, __: ClientDisconnect) -> JSONResponse:
        detail = "client disconnected before the request was complete"
        return problem_response(ProblemError(400, "client_disconnected", detail))

    @app.exception_handler(Exception)
    async def on_bug(_: Request, error: Exception) -> JSONResponse:
        log.error("unhandled error", exc_info=error)
        return problem_response(
            ProblemError(500, "internal_error", "an error in this service; it has been logged")
        )
