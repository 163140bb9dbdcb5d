"""Routes ``/livez``, ``/readyz`` and ``/metrics`` of every service."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

from services.common.domain.errors import PipelineError

Check = Callable[[], Awaitable[None]]
"""Health check: raises with the reason of a failure."""

CHECK_TIMEOUT_SECONDS = 3.0
PATHS = frozenset({"/livez", "/readyz", "/metrics"})

_METRICS_EXAMPLE = "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 1.8e+09\n"


class StoppedError(PipelineError):
    """A background task ended; the service must be restarted."""

    code = "stopped"


def running(task: asyncio.Task[None]) -> Check:
    """Return a check that a background task is running."""

    async def check() -> None:
        if task.done():
            raise StoppedError("ended")

    return check


def health_router(
    *,
    ready: Mapping[str, Check],
    alive: Mapping[str, Check] | None = None,
    about: Callable[[], Mapping[str, str]] = dict,
    registry: CollectorRegistry = REGISTRY,
) -> APIRouter:
    """Build the three routes.

    Args:
        ready: Readiness checks, by name of the dependency.
        alive: Liveness checks: a failure needs a restart.
        about: Further members of the answer of ``/readyz``.
        registry: Shown by ``/metrics``.
    """
    router = APIRouter(tags=["health"])

    @router.get("/livez", summary="Is a restart needed?", responses=_answers("worker"))
    async def livez() -> JSONResponse:
        return await _answer(alive or {})

    @router.get(
        "/readyz", summary="Can work be accepted now?", responses=_answers(*(alive or {}), *ready)
    )
    async def readyz() -> JSONResponse:
        return await _answer({**(alive or {}), **ready}, about())

    @router.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=PlainTextResponse,
        responses={200: {"content": {"text/plain": {"example": _METRICS_EXAMPLE}}}},
    )
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _answers(*checks: str) -> dict[int | str, dict[str, Any]]:
    """Describe both responses of a health route for OpenAPI, with examples."""
    well = {"status": "ok", "checks": dict.fromkeys(checks, "ok")}
    ill = {"status": "unavailable", "checks": dict.fromkeys(checks, "no answer within 3 s")}
    return {
        200: {"content": {"application/json": {"example": well}}},
        503: {"description": "No", "content": {"application/json": {"example": ill}}},
    }


async def _answer(
    checks: Mapping[str, Check], about: Mapping[str, str] = MappingProxyType({})
) -> JSONResponse:
    results = await asyncio.gather(*(_outcome(check) for check in checks.values()))
    outcomes = dict(zip(checks, results, strict=True))
    is_well = all(outcome == "ok" for outcome in results)
    return JSONResponse(
        {"status": "ok" if is_well else "unavailable", "checks": outcomes, **about},
        status_code=200 if is_well else 503,
    )


async def _outcome(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await check()
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_SECONDS:g} s"
    except Exception as error:  # noqa: BLE001  any failure is reported
        return f"{type(error).__name__}: {error}"[:300]
    return "ok"
