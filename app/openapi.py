"""OpenAPI description of requests, and of every problem with an example."""

from http import HTTPStatus
from typing import Any

from app.schemas import PREDICTION_EXAMPLE, Prediction, Predictions, Problem, UrlRequest
from app.uploads import MAX_FILES
from services.common.domain.image_formats import FORMATS
from services.common.domain.provenance import MAX_COLLECTION_LENGTH
from services.common.runtime.problems import MEDIA_TYPE

Responses = dict[int | str, dict[str, Any]]

_IMAGE = {"type": "string", "format": "binary"}
_TYPES = ", ".join(known.content_type for known in FORMATS)
"""Documentation only: the format is detected from the bytes."""
_PROVENANCE = {
    "source_url": {
        "type": "string",
        "description": "URL of the image (http or https); stored if the image is collected.",
        "example": "https://example.org/line.png",
    },
    "annotation": {
        "type": "string",
        "description": "Reference text; stored if the image is collected.",
        "example": "Wikipedia",
    },
    "collection": {
        "type": "string",
        "maxLength": MAX_COLLECTION_LENGTH,
        "description": "Collection of the image, if it is collected; by default `api`.",
        "example": "march",
    },
}
_COLLECT = {
    "name": "X-DocReco-Collect",
    "in": "header",
    "description": "`no`: do not collect the image, whatever the settings are.",
    "schema": {"type": "string", "enum": ["yes", "no"]},
    "example": "no",
}

PREDICT: dict[str, Any] = {
    "parameters": [_COLLECT],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            **_IMAGE,
                            "description": "PNG, JPEG, WebP, TIFF, BMP or GIF; one line of text.",
                        },
                        **_PROVENANCE,
                    },
                },
                "encoding": {"file": {"contentType": _TYPES}},
            },
            "application/json": {"schema": UrlRequest.model_json_schema()},
        },
    },
}
BATCH: dict[str, Any] = {
    "parameters": [_COLLECT],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array",
                            "items": _IMAGE,
                            "minItems": 1,
                            "maxItems": MAX_FILES,
                            "description": "One line of text each.",
                        }
                    },
                },
                "encoding": {"files": {"contentType": _TYPES}},
            }
        },
    },
}

_DETAILS = {
    HTTPStatus.UNAUTHORIZED: {"unauthorized": "bearer token missing or wrong"},
    HTTPStatus.REQUEST_TIMEOUT: {"upload_too_slow": "the request took more than 30 s to arrive"},
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: {
        "image_too_large": "6000 x 5000 is larger than 25000000 pixels in all, or 65535 on a side"
    },
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: {
        "unsupported_media_type": "image format is not one of PNG, JPEG, WEBP, TIFF, BMP, GIF"
    },
    HTTPStatus.UNPROCESSABLE_ENTITY: {
        "undecodable_image": "the image is corrupt: image file is truncated",
        "invalid_request": "the form's field 'file' is missing",
    },
    HTTPStatus.SERVICE_UNAVAILABLE: {
        "overloaded": "queue is too long (wait 1.3 s); retry later",
        "not_ready": "the model is loading",
    },
}
_OF_URLS = {
    HTTPStatus.UNPROCESSABLE_ENTITY: {
        "forbidden_address": "10.0.0.1 is not at a public address",
        "not_found": "the host answered 404",
    },
    HTTPStatus.BAD_GATEWAY: {"connection_failed": "the connection was lost"},
    HTTPStatus.GATEWAY_TIMEOUT: {"timeout": "nothing received for 10 s"},
}
_HAS_RETRY_AFTER = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


def predict_responses() -> Responses:
    """Return the responses of ``/predict``."""
    example = {"application/json": {"example": PREDICTION_EXAMPLE}}
    statuses = {**_DETAILS, **_OF_URLS}
    problems = {
        status: {**_DETAILS.get(status, {}), **_OF_URLS.get(status, {})} for status in statuses
    }
    return {200: {"model": Prediction, "content": example}, **_problems(problems)}


def batch_responses() -> Responses:
    """Return the responses of ``/predict/batch``."""
    failure = {"error": _problem(HTTPStatus.UNPROCESSABLE_ENTITY, "undecodable_image", "damaged")}
    example = {"application/json": {"example": {"items": [PREDICTION_EXAMPLE, failure]}}}
    return {200: {"model": Predictions, "content": example}, **_problems(_DETAILS)}


def _problems(details: dict[HTTPStatus, dict[str, str]]) -> Responses:
    return {int(status): _response(status, codes) for status, codes in details.items()}


def _response(status: HTTPStatus, codes: dict[str, str]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": f"{status.phrase}: {', '.join(f'`{code}`' for code in codes)}.",
        "content": {
            MEDIA_TYPE: {
                "schema": Problem.model_json_schema(),
                "examples": {
                    code: {"value": _problem(status, code, detail)}
                    for code, detail in codes.items()
                },
            }
        },
    }
    if status in _HAS_RETRY_AFTER:
        response["headers"] = {
            "Retry-After": {
                "description": "Seconds to wait before a retry.",
                "schema": {"type": "integer", "minimum": 1},
            }
        }
    return response


def _problem(status: HTTPStatus, code: str, detail: str) -> dict[str, Any]:
    problem = Problem(title=status.phrase, status=status, code=code, detail=detail)
    return problem.model_dump(mode="json")
