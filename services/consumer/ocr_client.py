"""Client of the OCR API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Protocol

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, ValidationError
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random,
)

from services.common.domain.errors import (
    OcrUnavailableError,
    PredictionRefusedError,
    TransientError,
)
from services.common.domain.records import Prediction, first_problem
from services.common.domain.sizes import MEBIBYTE
from services.common.download.responses import read_limited_body, retry_after_seconds
from services.common.runtime.problems import MEDIA_TYPE as PROBLEM_MEDIA_TYPE
from services.consumer.settings import ConsumerSettings

_REFUSALS = frozenset({413, 415, 422})
_OF_THE_IMAGE = frozenset({"image_too_large", "unsupported_media_type", "undecodable_image"})
"""Codes of permanently refused images."""
_LONGEST_DETAIL = 500
LARGEST_ANSWER = 4 * MEBIBYTE
"""Bytes of an answer; of a text of 10,000 characters it has some 60 kB."""
_JITTER = wait_random(0.1, 1)
OVERLOAD_ATTEMPTS = 5
LARGEST_WAIT_SECONDS = 10.0
_READY_TIMEOUT = aiohttp.ClientTimeout(total=3)
_NOT_COLLECTED = {"X-DocReco-Collect": "no"}
"""The image is in the bucket already and must not be collected again."""


class OcrFailedError(TransientError):
    """The API is ready but failed on this image: an error, a timeout or an invalid response."""

    code = "ocr_failed"


class OcrOverloadedError(OcrUnavailableError):
    """The API is overloaded."""

    code = "ocr_overloaded"


class OcrAnswer(BaseModel):
    """Answer of the API, the ``Prediction`` of its schema.

    What the API may leave out or answer with null is ``| None``: an image whose answer is invalid
    is tried again.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    text: str
    score: float = Field(ge=0, le=1)
    expected_cer: float | None = Field(None, ge=0, le=1)
    engine: str = Field(min_length=1)
    model_version: str = Field(min_length=1)
    width: int = Field(ge=1)
    """Pixels."""
    height: int = Field(ge=1)
    """Pixels."""
    duration_ms: float = Field(ge=0)

    def to_prediction(self, at: datetime) -> Prediction:
        """Return the prediction for the document."""
        fields = self.model_dump(exclude={"width", "height"}, exclude_none=True)
        return Prediction(**fields, predicted_at=at)


class Recogniser(Protocol):
    """Reads the text of an image."""

    async def predict(self, image: bytes) -> OcrAnswer:
        """Return the prediction."""
        ...


class OcrClient:
    """Calls one OCR API.

    Args:
        session: Open client session with the API as its base; the caller closes it.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def predict(self, image: bytes) -> OcrAnswer:
        """Request the prediction of an image; retry while the API is overloaded.

        Waiting here occupies one slot of the consumer (back-pressure), instead of pausing all of
        it.

        Raises:
            PredictionRefusedError: Permanent failure.
            OcrFailedError: Transient failure of this image.
        """
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(OcrOverloadedError),
            wait=_wait_retry_after,
            stop=stop_after_attempt(OVERLOAD_ATTEMPTS),
            reraise=True,
        ):
            with attempt:
                return await self._predict(image)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _predict(self, image: bytes) -> OcrAnswer:
        form = aiohttp.FormData()
        # the API detects the format; the uploader's content type is untrusted
        form.add_field("file", image, filename="image", content_type="application/octet-stream")
        try:
            async with self._session.post("/predict", data=form) as response:
                body = await read_limited_body(response, LARGEST_ANSWER)
        except aiohttp.ClientConnectorError as error:
            raise OcrUnavailableError(str(error)) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise await self._blame(f"{type(error).__name__}: {error}") from error
        if body is None:
            raise await self._blame(f"HTTP {response.status}, more than {LARGEST_ANSWER} bytes")
        return await self._answer_of(response, body)

    async def _answer_of(self, response: aiohttp.ClientResponse, body: bytes) -> OcrAnswer:
        status = response.status
        if status == HTTPStatus.OK:
            return await self._prediction(body)
        if status in _REFUSALS:
            is_problem = response.content_type == PROBLEM_MEDIA_TYPE
            if is_problem and (refusal := _refusal(body)):
                raise refusal
            raise await self._blame(f"HTTP {status} without a reason of the OCR API")
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            raise _no_service(body, retry_after_seconds(response.headers))
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise await self._blame(f"HTTP {status}")
        # Any other 4xx means a wrong configuration (address, token)
        raise OcrUnavailableError(f"HTTP {status}: check CONSUMER_OCR_URL and the token")

    async def check(self) -> None:
        """Raise OcrUnavailableError unless the API is ready."""
        try:
            async with self._session.get("/readyz", timeout=_READY_TIMEOUT) as response:
                if response.status != HTTPStatus.OK:
                    raise OcrUnavailableError(f"/readyz: HTTP {response.status}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OcrUnavailableError(f"/readyz: {type(error).__name__}: {error}") from error

    async def _prediction(self, body: bytes) -> OcrAnswer:
        try:
            return OcrAnswer.model_validate_json(body)
        except ValidationError as error:
            raise OcrFailedError(f"invalid response: {first_problem(error)}") from error

    async def _blame(self, what: str) -> OcrFailedError | OcrUnavailableError:
        """Classify a failure: it is this image's if the API is ready for others."""
        try:
            await self.check()
        except OcrUnavailableError as error:
            return OcrUnavailableError(f"{what}; {error}")
        return OcrFailedError(what)


@asynccontextmanager
async def open_ocr_client(
    settings: ConsumerSettings, url: HttpUrl | None = None
) -> AsyncIterator[OcrClient]:
    """Open a client for an ``async with`` block; it connects lazily."""
    headers = {**_NOT_COLLECTED}
    if settings.ocr_api_token is not None:
        headers["Authorization"] = f"Bearer {settings.ocr_api_token.get_secret_value()}"
    async with aiohttp.ClientSession(
        base_url=str(url or settings.ocr_url),
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=settings.ocr_timeout_seconds, connect=5),
        connector=aiohttp.TCPConnector(limit=settings.prefetch),
        trust_env=False,
    ) as session:
        yield OcrClient(session)


class _Problem(BaseModel):
    code: str = ""
    detail: str = ""


def _no_service(body: bytes, retry_after: float | None) -> OcrUnavailableError:
    try:
        code = _Problem.model_validate_json(body).code
    except ValidationError:
        code = ""
    if code == "overloaded":
        return OcrOverloadedError("503 overloaded", retry_after_seconds=retry_after)
    return OcrUnavailableError(f"503 {code}".strip(), retry_after_seconds=retry_after)


def _wait_retry_after(state: RetryCallState) -> float:
    """Return the API's ``Retry-After`` in seconds, with jitter."""
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.retry_after_seconds if isinstance(error, OcrUnavailableError) else None
    return min(LARGEST_WAIT_SECONDS, asked or 0.0) + _JITTER(state)


def _refusal(body: bytes) -> PredictionRefusedError | None:
    """Return the reason of a permanent refusal, or None.

    A gateway, or another service at this address, may answer 413 and 422 as well.
    """
    try:
        problem = _Problem.model_validate_json(body)
    except ValidationError:
        return None
    if problem.code not in _OF_THE_IMAGE:
        return None
    return PredictionRefusedError(problem.code, problem.detail[:_LONGEST_DETAIL])
