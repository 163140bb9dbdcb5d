"""Errors of Label Studio."""

from services.common.domain.errors import PermanentError, UnavailableError


class LabelStudioUnavailableError(UnavailableError):
    """Label Studio does not answer, or reports a server error.

    Args:
        message: Its explanation.
        retry_after_seconds: Its ``Retry-After``.
    """

    code = "label_studio_unavailable"
    dependency = "label-studio"

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class LabelStudioRefusedError(PermanentError):
    """Label Studio refuses the request, or its response is invalid.

    Args:
        status: HTTP status; 0 for an invalid response.
        detail: Its explanation.
    """

    code = "refused_by_label_studio"

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}" if status else detail)
        self.status = status


class LabelStudioNotSetError(PermanentError):
    """URL or token of Label Studio is not set."""

    code = "label_studio_not_set"
