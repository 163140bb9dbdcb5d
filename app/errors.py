"""Errors of the OCR API, by whether a retry of the request may succeed."""

from http import HTTPStatus

from services.common.domain.errors import PermanentError, PipelineError, TransientError
from services.common.download.errors import FailedDownloadError, RefusedDownloadError
from services.common.download.urls import UnacceptableUrlError

INTERNAL_ERROR = "internal_error"
"""Code of an unexpected error, as in ``problems``."""


class RefusedError(PermanentError):
    """A retry of the same request can't succeed."""

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
    """The request is not a form, or the image format is not supported."""

    code = "unsupported_media_type"
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class UndecodableImageError(RefusedError):
    """The file has a supported format but is corrupt."""

    code = "undecodable_image"
    status = HTTPStatus.UNPROCESSABLE_ENTITY


class SourceRefusedError(RefusedError):
    """Permanent download failure; ``code`` is the download's."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self, error: RefusedDownloadError | UnacceptableUrlError) -> None:
        super().__init__(error.detail)
        self.code = error.code


class BusyError(TransientError):
    """A retry of the same request may succeed."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    retry_after_seconds: int


class OverloadedError(BusyError):
    """The queue is full, or the wait would be too long."""

    code = "overloaded"
    retry_after_seconds = 1


class NotReadyError(BusyError):
    """The model is loading or failed to load."""

    code = "not_ready"
    retry_after_seconds = 5


class UploadTooSlowError(BusyError):
    """The image did not arrive in time."""

    code = "upload_too_slow"
    status = HTTPStatus.REQUEST_TIMEOUT
    retry_after_seconds = 1


class AbandonedError(BusyError):
    """The client disconnected before the response."""

    code = "abandoned"
    status = HTTPStatus.REQUEST_TIMEOUT
    retry_after_seconds = 1


class SourceFailedError(BusyError):
    """Transient download failure; ``code`` is the download's."""

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
"""Every error of a prediction of an uploaded image."""
