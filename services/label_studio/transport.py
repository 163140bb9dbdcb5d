"""HTTP transport to Label Studio: authentication, retries and size limits."""

import json
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import aiohttp
from aiohttp import ClientResponse, ClientSession
from pydantic import SecretStr, ValidationError
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential_jitter,
)

from services.common.download.responses import read_limited_body, retry_after_seconds
from services.label_studio.errors import LabelStudioRefusedError, LabelStudioUnavailableError
from services.label_studio.schemas import Access

ATTEMPTS = 4
MAX_WAIT_SECONDS = 60.0
MAX_ANSWER_BYTES = 64 * 2**20
"""Decompressed: a page of tasks has some hundred kilobytes."""
NOT_NOW = frozenset({429, 503})
"""Nothing was executed: any request may be repeated."""
SHOWN_CHARACTERS = 300
_BACKOFF = wait_exponential_jitter(multiplier=0.2, max=10, jitter=0.2)


class AnswerLostError(LabelStudioUnavailableError):
    """The request may have been executed: only idempotent ones are repeated."""


class Transport:
    """Sends requests and reads responses.

    A personal access token is a refresh token (JWT): it is exchanged for one of a few minutes.
    """

    def __init__(self, session: ClientSession, token: SecretStr) -> None:
        self._session = session
        self._token = token.get_secret_value()
        self._is_refresh_token = self._token.count(".") == 2
        self._access = ""
        self.answered_at: datetime | None = None
        """Time of the last response, by the server's clock."""

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> Any:
        """Send a request with retries; return the parsed response.

        Args:
            method: Idempotent, except POST.
            path: Without leading slash.
            params: Query.
            body: JSON.

        Raises:
            LabelStudioUnavailableError: It does not answer, or answers 429 or 5xx.
            LabelStudioRefusedError: It refuses the request.
        """

        def is_worth_it(error: BaseException) -> bool:
            may_be_done = method == "POST" and isinstance(error, AnswerLostError)
            return isinstance(error, LabelStudioUnavailableError) and not may_be_done

        retrying = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=_wait,
            retry=retry_if_exception(is_worth_it),
            reraise=True,
        )
        return await retrying(self._ask_once, method, path, params, body)

    async def _ask_once(
        self, method: str, path: str, params: Mapping[str, Any] | None, body: Any
    ) -> Any:
        if not self._is_refresh_token:
            return await self._send(method, path, f"Token {self._token}", params, body)
        if self._access:
            try:
                return await self._send(method, path, f"Bearer {self._access}", params, body)
            except LabelStudioRefusedError as error:
                if error.status != HTTPStatus.UNAUTHORIZED:
                    raise
        await self._renew()
        return await self._send(method, path, f"Bearer {self._access}", params, body)

    async def _renew(self) -> None:
        refresh = {"refresh": self._token}
        answer = await self._send("POST", "api/token/refresh/", None, None, refresh)
        try:
            self._access = Access.model_validate(answer).access
        except ValidationError as error:
            raise LabelStudioRefusedError(0, "the response has no access token") from error

    async def _send(
        self,
        method: str,
        path: str,
        authorization: str | None,
        params: Mapping[str, Any] | None,
        body: Any,
    ) -> Any:
        headers = {} if authorization is None else {"Authorization": authorization}
        try:
            async with self._session.request(
                method, path, params=params, json=body, headers=headers, allow_redirects=False
            ) as response:
                self.answered_at = _date_of(response)
                content = await read_limited_body(response, MAX_ANSWER_BYTES)
        except aiohttp.ClientConnectorError as error:
            raise LabelStudioUnavailableError(str(error)) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise AnswerLostError(f"{type(error).__name__}: {error}") from error
        if content is None:
            detail = f"the response has more than {MAX_ANSWER_BYTES} bytes"
            raise LabelStudioRefusedError(0, detail)
        _check(response, content)
        try:
            return json.loads(content) if content else None
        except (ValueError, RecursionError) as error:
            raise LabelStudioRefusedError(
                0, f"{method} /{path}: the response is not JSON"
            ) from error


def _check(response: ClientResponse, content: bytes) -> None:
    status = response.status
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return
    if status < HTTPStatus.BAD_REQUEST:
        detail = "redirected: set LABEL_STUDIO_URL to the target"
        raise LabelStudioRefusedError(status, detail)
    detail = _detail_of(content) or response.reason or ""
    if status in NOT_NOW:
        seconds = retry_after_seconds(response.headers)
        raise LabelStudioUnavailableError(f"{status}: {detail}", retry_after_seconds=seconds)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        raise AnswerLostError(f"{status}: {detail}")
    raise LabelStudioRefusedError(status, detail)


def _detail_of(content: bytes) -> str:
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(answer, dict):
        return str(answer)[:SHOWN_CHARACTERS]
    said = answer.get("validation_errors") or answer.get("detail") or ""
    return str(said)[:SHOWN_CHARACTERS]


def _date_of(response: ClientResponse) -> datetime | None:
    try:
        return parsedate_to_datetime(response.headers.get("Date", ""))
    except ValueError:
        return None


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_seconds if isinstance(error, LabelStudioUnavailableError) else None
    return _BACKOFF(state) if asked is None else min(asked, MAX_WAIT_SECONDS)
