"""Routes of the OCR API."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry

from app import openapi
from app.errors import AbandonedError, BusyError, InvalidRequestError, RefusedError
from app.metrics import OcrMetrics
from app.schemas import Prediction, Predictions
from app.service import OcrService
from app.settings import OcrSettings
from app.uploads import (
    MAX_FILES,
    BodyLimits,
    HeldBytes,
    Hold,
    LingeringClose,
    media_type,
    receive_form,
    receive_url,
)
from services.common.runtime.access import SiteGuard, require_bearer, to_names
from services.common.runtime.health import health_router
from services.common.runtime.problems import (
    ProblemError,
    install_problem_handlers,
    problem_response,
)
from services.common.runtime.server import BodyGuard
from services.common.runtime.settings import VERSION

COLLECT_HEADER = "X-DocReco-Collect"
"""``no``: do not collect the image; the consumer sends it."""

T = TypeVar("T")


def create_app(
    settings: OcrSettings,
    service: OcrService,
    metrics: OcrMetrics,
    registry: CollectorRegistry,
    *,
    wait_for_model: bool = False,
) -> FastAPI:
    """Build the application, which runs the service in its lifespan."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running(wait_for_model=wait_for_model):
            yield

    app = FastAPI(
        title="DocReco OCR API",
        summary="Reads one line of text from an image.",
        version=VERSION,
        lifespan=lifespan,
    )
    token = settings.api_token
    hosts = None if token else to_names(settings.hosts)
    app.add_middleware(BodyGuard)
    app.add_middleware(SiteGuard, hosts=hosts, setting="OCR_HOSTS")
    app.add_middleware(LingeringClose)
    app.include_router(
        health_router(
            ready={"model": service.predictor.check},
            about=lambda: service.predictor.model,
            registry=registry,
        )
    )
    app.include_router(
        _PredictionRoutes(settings, service, metrics).router(),
        dependencies=[Depends(require_bearer(token, setting="OCR_API_TOKEN"))] if token else [],
    )
    install_problem_handlers(app)
    _install_error_handler(app, metrics)
    return app


class _PredictionRoutes:
    def __init__(self, settings: OcrSettings, service: OcrService, metrics: OcrMetrics) -> None:
        self._service = service
        self._metrics = metrics
        self._held = HeldBytes(settings.max_held_bytes)
        timeout_seconds = settings.upload_timeout_seconds
        self._one = BodyLimits(settings.max_image_bytes, timeout_seconds)
        self._many = BodyLimits(settings.max_batch_bytes, timeout_seconds, MAX_FILES)

    def router(self) -> APIRouter:
        router = APIRouter(tags=["prediction"])
        router.post(
            "/predict",
            summary="Read the text of an image",
            responses=openapi.predict_responses(),
            openapi_extra=openapi.PREDICT,
        )(self.predict)
        router.post(
            "/predict/batch",
            summary="Read the texts of up to 64 images",
            responses=openapi.batch_responses(),
            openapi_extra=openapi.BATCH,
        )(self.predict_batch)
        return router

    async def predict(self, request: Request) -> Prediction:
        with self._admitted() as hold:
            may_collect = _may_collect(request)
            if media_type(request) == "application/json":
                asked = await receive_url(request, self._one, hold)
                work = self._service.predict_url(asked, hold, may_collect=may_collect)
                return await _until_disconnect(request, work)
            form = await receive_form(request, "file", self._one, hold)
            origin = self._service.provenance(form.fields) if may_collect else None
            return await _until_disconnect(request, self._service.predict(form.files[0], origin))

    async def predict_batch(self, request: Request) -> Predictions:
        with self._admitted() as hold:
            origin = self._service.provenance({}) if _may_collect(request) else None
            form = await receive_form(request, "files", self._many, hold)
            return await _until_disconnect(request, self._service.predict_all(form.files, origin))

    @contextmanager
    def _admitted(self) -> Iterator[Hold]:
        self._service.predictor.check_room()
        with self._metrics.in_flight(), self._held.holding() as hold:
            yield hold


def _may_collect(request: Request) -> bool:
    wish = request.headers.get(COLLECT_HEADER, "yes").strip().lower()
    if wish not in {"yes", "no"}:  # a misspelt "no" must not count as "yes"
        raise InvalidRequestError(f"{COLLECT_HEADER} must be yes or no")
    return wish == "yes"


async def _until_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Cancel the work when the client disconnects.

    Raises:
        AbandonedError: The client disconnected.
    """
    working = asyncio.create_task(work)
    disconnecting = asyncio.create_task(_wait_disconnect(request))
    try:
        await asyncio.wait({working, disconnecting}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise AbandonedError("client disconnected before the response")
        return working.result()
    finally:
        for task in (working, disconnecting):
            task.cancel()


async def _wait_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _install_error_handler(app: FastAPI, metrics: OcrMetrics) -> None:
    @app.exception_handler(RefusedError)
    @app.exception_handler(BusyError)
    async def on_error(_: Request, error: RefusedError | BusyError) -> JSONResponse:
        metrics.count_rejection(error.code)
        headers = (
            {"Retry-After": str(error.retry_after_seconds)}
            if isinstance(error, BusyError)
            else None
        )
        problem = ProblemError(error.status, error.code, str(error), headers=headers)
        return problem_response(problem)
