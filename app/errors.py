"""Errors of the OCR API, sorted by whether sending the same request again would help."""

from http import HTTPStatus

from services.common.domain.errors import PermanentError, PipelineError, TransientError
from services.common.download.errors import FailedDownloadError, RefusedDownloadError
from services.common.download.urls import UnacceptableUrlError

INTERNAL_ERROR = "internal_error"
"""Code of a bug of ours, as ``problems`` answers it."""


class RefusedError(PermanentError):
    """The same request is refused every time."""

    status: HTTPStatus


class InvalidRequestError(RefusedError):
    """The form or the JSON is malformed, or its image is missing."""

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


class SourceRefusedError(RefusedError):
    """The URL will never give an image; ``code`` is the download's.

    Args:
        error: What is wrong with the URL, or what the download ended in.
    """

    status = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self, error: RefusedDownloadError | UnacceptableUrlError) -> None:
        super().__init__(error.detail)
        self.code = error.code


class BusyError(TransientError):
    """The same request may succeed later."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    retry_after_seconds: int


class OverloadedError(BusyError):
    """As much work waits as may wait."""

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


class AbandonedError(BusyError):
    """The client left before its answer; nobody reads this one."""

    code = "abandoned"
    status = HTTPStatus.REQUEST_TIMEOUT
    retry_after_seconds = 1


class SourceFailedError(BusyError):
    """The URL's host did not give the image, but may later; ``code`` is the download's.

    Args:
        error: What the download ended in.
    """

    def __init__(self, error: FailedDownloadError) -> None:
        super().__init__(error.detail)
        self.code = error.code
        is_late = error.code == "timeout"
        self.status = HTTPStatus.GATEWAY_TIMEOUT if is_late else HTTPStatus.BAD_GATEWAY
        self.retry_after_seconds = max(1, round(error.retry_after_seconds or 5))


ERRORS: tuple[type[PipelineError], ...] = (
    InvalidRequestError,
    ImageTooLargeError,
    UnsupportedMediaTypeError,
    UndecodableImageError,
    OverloadedError,
    NotReadyError,
    UploadTooSlowError,
    AbandonedError,
)
"""Every error that a prediction of an image that was sent can end in."""
