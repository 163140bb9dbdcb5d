"""What can be wrong with Label Studio."""

from services.common.domain.errors import PermanentError, UnavailableError


class LabelStudioUnavailableError(UnavailableError):
    """Label Studio does not answer, or answers with an error of its own.

    Args:
        message: What it said.
        retry_after_seconds: When to come again, where it said so.
    """

    code = "label_studio_unavailable"
    dependency = "label-studio"

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class LabelStudioRefusedError(PermanentError):
    """Label Studio answers, and refuses, or answers what is not understood.

    Args:
        status: HTTP status; 0 where the answer is not understood.
        detail: What it said.
    """

    code = "refused_by_label_studio"

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}" if status else detail)
        self.status = status


class LabelStudioNotSetError(PermanentError):
    """The settings do not say where Label Studio is, or who asks."""

    code = "label_studio_not_set"
