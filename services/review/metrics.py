"""Metrics of the review page; labels hold no names, texts, keys or addresses."""

import time

from fastapi import FastAPI, Request, Response
from prometheus_client import Counter, Gauge, Histogram
from starlette.middleware.base import RequestResponseEndpoint

from services.common.domain.annotations import AnnotationOutcome
from services.common.domain.records import Quality
from services.common.runtime.health import PATHS as HEALTH_PATHS
from services.common.runtime.metrics import counter_at_zero
from services.label_studio.pull import PullResult

STATIC_ROUTE = "/static"
NO_ROUTE = "none"
"""Label of requests without a route, whose paths are untrusted."""

REQUESTS = Counter(
    "review_requests_total", "Requests answered, health routes left out.", ["route", "status"]
)
DURATIONS = Histogram(
    "review_request_duration_seconds",
    "Time to answer, health routes left out.",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 10),
)
ANNOTATIONS = counter_at_zero(
    "review_annotations_total",
    "Annotations written, by quality.",
    ["quality"],
    [(quality,) for quality in Quality],
)
UNDONE = Counter("review_annotations_undone_total", "Annotations undone.")
LEASES = counter_at_zero(
    "review_leases_total",
    "Leases of images: taken, refused, and skipped.",
    ["outcome"],
    [("taken",), ("refused",), ("skipped",)],
)
LABEL_STUDIO_TASKS = counter_at_zero(
    "review_label_studio_tasks_total",
    "Tasks of Label Studio pulled because of a webhook, by outcome.",
    ["outcome"],
    [(outcome,) for outcome in (*PullResult, *AnnotationOutcome)],
)
LOOP_STAGE = Gauge("review_loop_stage", "1: where docreco loop stands.", ["stage"])
LOOP_ANNOTATIONS = Gauge(
    "review_loop_new_annotations", "Annotations since its last model began, by its last call."
)
LOOP_CALL = Gauge("review_loop_last_call_timestamp_seconds", "Its last call.")


def install_metrics(app: FastAPI) -> None:
    """Count every request; add it last, as the outermost middleware."""

    @app.middleware("http")
    async def measure(request: Request, call_next: RequestResponseEndpoint) -> Response:
        if request.url.path in HEALTH_PATHS:
            return await call_next(request)
        begun, status = time.perf_counter(), 500
        try:
            response = await call_next(request)
            status = response.status_code
        finally:
            route = _route_of(request)
            REQUESTS.labels(route=route, status=str(status)).inc()
            DURATIONS.labels(route=route).observe(time.perf_counter() - begun)
        return response


def _route_of(request: Request) -> str:
    """Return the route's path template."""
    if request.url.path.startswith(f"{STATIC_ROUTE}/"):
        return STATIC_ROUTE
    return str(getattr(request.scope.get("route"), "path", NO_ROUTE))
