"""Why an image could not be fetched, sorted by whether another attempt may help."""

from services.common.errors import PermanentError, TransientError

ANY_NUMBER = 100


class RefusedDownloadError(PermanentError):
    """The same URL fails every time.

    Args:
        code: Stable name, for instance ``not_found``.
        detail: One sentence for the person who sent the list.
        http_status: What the host answered, where it did.
    """

    def __init__(self, code: str, detail: str, *, http_status: int | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.http_status = http_status


class FailedDownloadError(TransientError):
    """The same URL may work later.

    Args:
        code: Stable name, for instance ``timeout``.
        detail: One sentence for the person who sent the list.
        http_status: What the host answered, where it did.
        most_attempts: After so many it is no use: a person should not wait minutes for a dead host.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        http_status: int | None = None,
        most_attempts: int = ANY_NUMBER,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.http_status = http_status
        self.most_attempts = most_attempts


DownloadError = RefusedDownloadError | FailedDownloadError
