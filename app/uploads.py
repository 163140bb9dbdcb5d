"""Read the image of a form, never more of it than allowed."""

import asyncio
from collections.abc import AsyncGenerator

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from app.errors import (
    ImageTooLargeError,
    InvalidRequestError,
    UnsupportedMediaTypeError,
    UploadTooSlowError,
)

FORM_OVERHEAD_BYTES = 64 * 1024
"""What a form may hold besides the file: boundaries, headers, other fields."""
MAX_FIELDS = 8


async def read_image(request: Request, *, max_bytes: int, timeout_seconds: float) -> bytes:
    """Return the file in the form field ``file``.

    Args:
        request: Its body is ``multipart/form-data``, not read yet.
        max_bytes: Largest file; reading stops at the first byte beyond.
        timeout_seconds: Limit for the whole body.

    Raises:
        UnsupportedMediaTypeError: The request is not such a form.
        InvalidRequestError: The form is malformed, or has no such file.
        ImageTooLargeError: The file is too large.
        UploadTooSlowError: The body did not arrive in time.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise UnsupportedMediaTypeError("send a form: multipart/form-data with a field 'file'")
    parser = MultiPartParser(
        request.headers,
        _bounded(request, max_bytes),
        max_files=1,
        max_fields=MAX_FIELDS,
        max_part_size=FORM_OVERHEAD_BYTES,
    )
    parser.spool_max_size = max_bytes + FORM_OVERHEAD_BYTES  # in memory: never waits for a disk
    try:
        async with asyncio.timeout(timeout_seconds):
            form = await parser.parse()
    except MultiPartException as error:
        raise InvalidRequestError(f"the form is malformed: {error.message}") from error
    except ValueError as error:  # a character set that cannot decode, for instance
        raise InvalidRequestError("the form is malformed") from error
    except ClientDisconnect as error:
        raise InvalidRequestError("the client left before the form was complete") from error
    except TimeoutError as error:
        raise UploadTooSlowError(f"the form took more than {timeout_seconds:g} s") from error
    try:
        content = await _file(form.get("file"))
    finally:
        await form.close()
    if len(content) > max_bytes:
        raise _too_large(max_bytes)
    return content


async def _file(field: UploadFile | str | None) -> bytes:
    if not isinstance(field, UploadFile):
        what = "is missing" if field is None else "is no file: it has no filename"
        raise InvalidRequestError(f"the form's field 'file' {what}")
    await field.seek(0)  # a form without its last boundary leaves it elsewhere
    return await field.read()


async def _bounded(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    limit = max_bytes + FORM_OVERHEAD_BYTES
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(max_bytes)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limit:
            raise _too_large(max_bytes)
        yield chunk


def _too_large(max_bytes: int) -> ImageTooLargeError:
    return ImageTooLargeError(f"the file has more than {max_bytes} bytes")
