"""HTTP: requests to calls, results and errors to answers."""

from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry

from app.errors import BusyError, RefusedError
from app.metrics import OcrMetrics
from app.predictor import Predictor
from app.schemas import Prediction, problem_responses
from app.settings import OcrSettings
from app.uploads import read_image
from services.common.health import health_router
from services.common.problems import ProblemError, install_problem_handlers, problem_response

_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "PNG, JPEG, WebP, TIFF, BMP or GIF; one line of text.",
                        }
                    },
                }
            }
        },
    }
}
_PROBLEMS = problem_responses(
    {
        HTTPStatus.REQUEST_TIMEOUT: "`upload_too_slow`: the form did not arrive in time.",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "`image_too_large`: too many bytes or pixels.",
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "`unsupported_media_type`: none of the formats.",
        HTTPStatus.UNPROCESSABLE_ENTITY: (
            "`undecodable_image`: the image is damaged. `invalid_request`: the form is."
        ),
        HTTPStatus.SERVICE_UNAVAILABLE: (
            "`overloaded` or `not_ready`: send it again after `Retry-After` seconds."
        ),
    }
)


def create_app(
    settings: OcrSettings, predictor: Predictor, metrics: OcrMetrics, registry: CollectorRegistry
) -> FastAPI:
    """Build the API.

    Args:
        settings: Its limits.
        predictor: What reads the images.
        metrics: Where refusals are counted.
        registry: What ``/metrics`` shows.
    """
    app = FastAPI(
        title="DocReco OCR API",
        summary="Reads one line of text from an image.",
        version=version("docreco-pipeline"),
    )
    app.include_router(health_router(ready={"model": predictor.check}, registry=registry))
    app.include_router(_prediction_router(settings, predictor))
    install_problem_handlers(app)
    _install_error_handler(app, metrics)
    return app


def _prediction_router(settings: OcrSettings, predictor: Predictor) -> APIRouter:
    router = APIRouter(tags=["prediction"])

    @router.post(
        "/predict",
        summary="Read the text of an image",
        responses=_PROBLEMS,
        openapi_extra=_FORM,
    )
    async def predict(request: Request) -> Prediction:
        with predictor.admission():
            content = await read_image(
                request,
                max_bytes=settings.max_image_bytes,
                timeout_seconds=settings.upload_timeout_seconds,
            )
            return await predictor.predict(content)

    return router


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
