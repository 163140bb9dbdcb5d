"""Receive the body of a request within limits of size, memory and time.

A client that is refused in the middle of its upload gets the response: the connection lingers.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import (
    ImageTooLargeError,
    InvalidRequestError,
    OverloadedError,
    UnsupportedMediaTypeError,
    UploadTooSlowError,
)
from app.schemas import UrlRequest
from services.common.domain.records import first_problem
from services.common.runtime.server import FormLimits, bounded_body, read_form

FORM_OVERHEAD_BYTES = 64 * 1024
"""Allowance per file for boundaries, headers and other fields."""
MAX_FIELDS = 8
MAX_FILES = 64

Hold = Callable[[int], None]
"""Reserves bytes of memory, or raises OverloadedError."""

SECONDS = 2.0
MOST_BYTES = 64 * 1024 * 1024


class HeldBytes:
    """Memory budget of all request bodies, in bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    @contextmanager
    def holding(self) -> Iterator[Hold]:
        """Yield a function that reserves bytes until the block ends."""
        own = 0

        def hold(size: int) -> None:
            nonlocal own
            if self._held + size > self._most:
                raise OverloadedError("request memory is full (OCR_MAX_HELD_BYTES); retry later")
            self._held += size
            own += size

        try:
            yield hold
        finally:
            self._held -= own


@dataclass(frozen=True)
class BodyLimits:
    """Limits of the body of one request."""

    max_bytes: int
    """Of all files together."""
    timeout_seconds: float
    """To receive the whole body."""
    max_files: int = 1


@dataclass(frozen=True)
class ReceivedForm:
    """A form that was received."""

    files: list[bytes]
    """In order; at least one."""
    fields: dict[str, str]


async def receive_form(
    request: Request, field: str, limits: BodyLimits, hold: Hold
) -> ReceivedForm:
    """Return the files in a form's field, and its other fields.

    Args:
        request: Its body is ``multipart/form-data``, not read yet.
        field: Name of the files' field.
        limits: Of the body.
        hold: Counts its bytes.

    Raises:
        UnsupportedMediaTypeError: The request is not a multipart form.
        InvalidRequestError: The form is malformed, or has no such field.
        ImageTooLargeError: The files are too large.
        UploadTooSlowError: The body did not arrive in time.
        OverloadedError: The memory budget is exhausted.
    """
    if media_type(request) != "multipart/form-data":
        raise UnsupportedMediaTypeError(f"send a form: multipart/form-data with a field {field!r}")
    most = limits.max_bytes + FORM_OVERHEAD_BYTES * limits.max_files
    body = bounded_body(request, most, _too_large, hold)
    # In memory: never waits for a disk
    of_form = FormLimits(MAX_FIELDS, FORM_OVERHEAD_BYTES, limits.max_files, memory_bytes=most)
    async with _deadline(limits):
        form = await read_form(request, body, of_form, _malformed)
    try:
        return await _to_form(form, field, limits)
    finally:
        await form.close()


async def receive_url(request: Request, limits: BodyLimits, hold: Hold) -> UrlRequest:
    """Parse a JSON body.

    Raises:
        InvalidRequestError: It is not ``{"url": …}``.
        ImageTooLargeError: The body is too long.
        UploadTooSlowError: The body did not arrive in time.
        OverloadedError: The memory budget is exhausted.
    """
    async with _deadline(limits):
        body = bounded_body(request, FORM_OVERHEAD_BYTES, _too_large, hold)
        content = b"".join([piece async for piece in body])
    try:
        return UrlRequest.model_validate_json(content)
    except ValidationError as error:
        raise InvalidRequestError(first_problem(error, whole="the JSON")[:300]) from error


def media_type(request: Request) -> str:
    """Return the content type of a request in lower case, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def check_size(content: bytes, max_bytes: int) -> None:
    """Raise ImageTooLargeError unless a file is small enough."""
    if len(content) > max_bytes:
        raise ImageTooLargeError(f"the file has more than {max_bytes} bytes")


@asynccontextmanager
async def _deadline(limits: BodyLimits) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limits.timeout_seconds):
            yield
    except ClientDisconnect as error:
        raise InvalidRequestError("client disconnected before the request was complete") from error
    except TimeoutError as error:
        limit = f"{limits.timeout_seconds:g} s"
        raise UploadTooSlowError(f"the request took more than {limit} to arrive") from error


async def _to_form(form: FormData, field: str, limits: BodyLimits) -> ReceivedForm:
    values = form.getlist(field)
    if not values:
        raise InvalidRequestError(f"the form's field {field!r} is missing")
    files = [await _file(value, field) for value in values]
    if sum(map(len, files)) > limits.max_bytes:
        raise _too_large(limits.max_bytes)
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    return ReceivedForm(files, fields)


async def _file(value: UploadFile | str, field: str) -> bytes:
    if not isinstance(value, UploadFile):
        raise InvalidRequestError(f"the form's field {field!r} is not a file: it has no filename")
    await value.seek(0)  # a form without its last boundary leaves the position at the end
    return await value.read()


def _malformed(reason: str) -> InvalidRequestError:
    return InvalidRequestError(f"the form is malformed: {reason}")


def _too_large(max_bytes: int) -> ImageTooLargeError:
    return ImageTooLargeError(f"more than {max_bytes} bytes in all")


class LingeringClose:
    """ASGI middleware: drain the rest of an upload after the response, within limits.

    A connection that is closed while bytes arrive is reset (RFC 9112, section 9.6), and many
    clients then report that instead of the response. uvicorn drains by itself, except where the
    client sent ``Connection: close``, or speaks HTTP/1.0.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or not _is_closed_after(scope):
            await self._app(scope, receive, send)
            return
        upload = _Upload(receive)

        async def answer(message: Message) -> None:
            is_last = message["type"] == "http.response.body" and not message.get("more_body")
            if is_last and not upload.is_over:
                await send({**message, "more_body": True})  # the complete response, for the client
                await upload.forget()
                message = {"type": "http.response.body"}
            await send(message)

        await self._app(scope, upload.receive, answer)


def _is_closed_after(scope: Scope) -> bool:
    """Return whether the response ends the connection (RFC 9112, 9.3), as uvicorn sees it."""
    said = ",".join(Headers(scope=scope).getlist("connection")).lower().split(",")
    return scope["http_version"] == "1.0" or "close" in map(str.strip, said)


class _Upload:
    """The body of a request, read to its end or to the limits."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_over = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.is_over = self.is_over or not message.get("more_body", False)
        return message

    async def forget(self) -> None:
        size = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(SECONDS):
                while not self.is_over and size < MOST_BYTES:
                    size += len((await self.receive()).get("body", b""))
