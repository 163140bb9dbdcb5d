"""Errors of downloads, by whether a retry may succeed."""

from typing import Literal

from services.common.domain.errors import PermanentError, TransientError
from services.common.domain.redaction import hide_secrets

DownloadCode = Literal[
    "archive_refused",
    "bad_redirect",
    "connection_failed",
    "credentials_in_url",
    "dns_failure",
    "empty_body",
    "forbidden",
    "forbidden_address",
    "forgotten",
    "gone",
    "host_not_ready",
    "host_paused",
    "http_client_error",
    "http_server_error",
    "incomplete_body",
    "invalid_response",
    "invalid_url",
    "line_not_cut",
    "no_space",
    "not_an_image",
    "not_found",
    "page_changed",
    "rate_limited",
    "robots_disallowed",
    "robots_tag",
    "robots_unavailable",
    "submitted_file_gone",
    "timeout",
    "tls_error",
    "too_large",
    "too_many_redirects",
    "unexpected_status",
    "unsupported_encoding",
    "unsupported_scheme",
    "url_too_long",
]
"""Error codes of downloads: a metric label, whose series exist at zero."""
ANY_NUMBER = 100
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
LONGEST_DETAIL = 500
"""Limit of a detail in characters: a part may come from the host."""


class RefusedDownloadError(PermanentError):
    """Permanent failure: a retry can't succeed.

    Args:
        code: Stable name, for instance ``not_found``.
        detail: One sentence for the person who sent the list.
        http_status: Of the response, if any.
    """

    def __init__(self, code: DownloadCode, detail: str, *, http_status: int | None = None) -> None:
        self.detail = to_detail(detail)
        super().__init__(self.detail)
        self.code: DownloadCode = code
        self.http_status = http_status


class FailedDownloadError(TransientError):
    """Transient failure: a retry may succeed.

    Args:
        code: Stable name, for instance ``timeout``.
        detail: One sentence for the person who sent the list.
        http_status: Of the response, if any.
        most_attempts: Limit of attempts: people should not wait minutes for a dead host.
        retry_after_seconds: Of the host's ``Retry-After``, if any.

    Attributes:
        host: The redirect's host that failed; None: the requested one.
        is_repeated: It is an earlier answer: no request was sent.
    """

    def __init__(
        self,
        code: DownloadCode,
        detail: str,
        *,
        http_status: int | None = None,
        most_attempts: int = ANY_NUMBER,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.detail = to_detail(detail)
        super().__init__(self.detail)
        self.code: DownloadCode = code
        self.http_status = http_status
        self.most_attempts = most_attempts
        self.retry_after_seconds = retry_after_seconds
        self.host: str | None = None
        self.is_repeated = False


DownloadError = RefusedDownloadError | FailedDownloadError


def to_detail(text: str) -> str:
    """Return one printable, truncated line without queries of URLs.

    Bytes of a host that are not text arrive as lone surrogates (PEP 383), which neither MongoDB nor
    JSON accepts.
    """
    line = hide_secrets(" ".join(text.split()))
    cut = line if len(line) <= LONGEST_DETAIL else f"{line[:LONGEST_DETAIL]}…"
    return "".join(each if each.isprintable() else REPLACEMENT for each in cut)
