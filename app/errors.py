"""Errors of the OCR API, sorted by whether sending the same request again would help."""

from http import HTTPStatus

from services.common.errors import PermanentError, PipelineError, TransientError


class RefusedError(PermanentError):
    """The same request is refused every time."""

    status: HTTPStatus


class InvalidRequestError(RefusedError):
    """The form is malformed, or its ``file`` is missing."""

    code = "invalid_request"
    status = HTTPStatus.UNPROCESSABLE_ENTITY


class ImageTooLargeError(RefusedError):
    """The file has too many bytes, or the image too many pixels."""

    code = "image_too_large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class UnsupportedMediaTypeError(RefusedError):
    """The request is no form, or the file is in none of the formats."""

    code = "unsupported_media_type"
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class UndecodableImageError(RefusedError):
    """The file is in one of the formats but damaged."""

    code = "undecodable_image"
    status = HTTPStatus.UNPROCESSABLE_ENTITY


class BusyError(TransientError):
    """The same request may succeed later."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    retry_after_seconds: int


class OverloadedError(BusyError):
    """As many requests wait as may wait."""

    code = "overloaded"
    retry_after_seconds = 1


class NotReadyError(BusyError):
    """The model is loading, or failed to load."""

    code = "not_ready"
    retry_after_seconds = 5


class UploadTooSlowError(BusyError):
    """The image did not arrive in time."""

    code = "upload_too_slow"
    status = HTTPStatus.REQUEST_TIMEOUT
    retry_after_seconds = 1


ERRORS: tuple[type[PipelineError], ...] = (
    InvalidRequestError,
    ImageTooLargeError,
    UnsupportedMediaTypeError,
    UndecodableImageError,
    OverloadedError,
    NotReadyError,
    UploadTooSlowError,
)
"""Every error that a prediction can end in."""
