"""Read responses: validators, Retry-After, X-Robots-Tag and status; and exceptions of the client.

See docs/decisions/0014-conditional-requests.md.
"""

import os
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urljoin

import aiohttp
import structlog
from yarl import URL

from services.common.domain.errors import PipelineError
from services.common.download.errors import (
    DownloadCode,
    DownloadError,
    FailedDownloadError,
    RefusedDownloadError,
)
from services.common.download.guard import ForbiddenAddressError
from services.common.download.settings import DownloadSettings
from services.common.download.urls import UnacceptableUrlError, check_characters, to_url

LONGEST_RETRY_AFTER_SECONDS = 3600.0
"""Limit of ``Retry-After``."""

_ETAG = re.compile(r'(?:W/)?"[!#-~]{0,256}"')
_HTTP_DATE = re.compile(r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT")
_LONGEST_DATE = 40
_ROBOT = re.compile(r"\*|(?=.*[a-z])[!#-'+.^-z|~0-9-]+")
"""A product token (RFC 9110, 5.6.2): without spaces, so that a date with a comma is not one."""
_OPT_OUT = frozenset({"noai", "noimageai"})
_WITH_VALUE = frozenset(
    {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}
)
"""Rules of the form ``name: value``, which is also the form of a robot's name."""

log = structlog.stdlib.get_logger(__name__)

DEAD_HOST_ATTEMPTS = 2
"""Attempts at an unresponsive host: it rarely recovers within a minute."""

_RAW_BYTE = re.compile("[\udc80-\udcff]")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOT_YET = frozenset(
    {
        HTTPStatus.ACCEPTED,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.LOCKED,
        HTTPStatus.TOO_EARLY,
    }
)
"""Transient statuses (RFC 9110, 15.3.3 and 15.5.9; RFC 4918, 11.3; RFC 8470, 5.2)."""
_LIMITS = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.REQUEST_ENTITY_TOO_LARGE})
"""Statuses that mean rate limiting if ``Retry-After`` is present."""
_CODES: Mapping[int, DownloadCode] = {
    401: "forbidden",
    403: "forbidden",
    404: "not_found",
    410: "gone",
    451: "forbidden",
}
_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


@dataclass(frozen=True)
class Validators:
    """Validators of a downloaded resource (RFC 9110, 8.8).

    Args:
        etag: Strong or weak, as received.
        last_modified: As received.
        url: Their origin after redirects; None: the requested URL.
    """

    etag: str | None = None
    last_modified: str | None = None
    url: str | None = None

    def conditions(self, url: URL, *, is_first: bool) -> dict[str, str]:
        """Return the headers of a conditional request to one URL of a chain of redirects.

        They are sent only to the resource they came from, as a tag may equal another's by chance
        and would disclose one host's response to another. Invalid values (RFC 9110) are left out.
        """
        if str(url) != self.url if self.url else not is_first:
            return {}
        headers: dict[str, str] = {}
        if etag := clean_etag(self.etag):
            headers["If-None-Match"] = etag
        if date := clean_date(self.last_modified):
            headers["If-Modified-Since"] = date
        return headers


def clean_etag(value: str | None) -> str | None:
    """Return a valid entity tag, or None."""
    return value if value and _ETAG.fullmatch(value) else None


def clean_date(value: str | None) -> str | None:
    """Return a date in the preferred format of HTTP, or None."""
    return value if value and _HTTP_DATE.fullmatch(value) else None


async def read_limited_body(response: aiohttp.ClientResponse, most: int) -> bytes | None:
    """Return the body of a response; None if it has more than ``most`` bytes.

    Raises:
        aiohttp.ClientError: The response ended early.
        TimeoutError: It took too long.
    """
    content = bytearray()
    async for part in response.content.iter_any():
        content += part
        if len(content) > most:
            return None
    return bytes(content)


def retry_after_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the ``Retry-After`` of a response (RFC 9110, 10.2.3), an hour at most.

    Args:
        headers: Of the response.
        now: Time, for tests.

    Returns:
        Seconds; None if it is missing or invalid.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), LONGEST_RETRY_AFTER_SECONDS)
    if not value or len(value) > _LONGEST_DATE:
        return None
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    seconds = (date.replace(tzinfo=date.tzinfo or UTC) - (now or datetime.now(UTC))).total_seconds()
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)


def opts_out(lines: Iterable[str], agent: str) -> bool:
    """Return whether X-Robots-Tag forbids training on an image: ``noai``, ``noimageai``.

    Args:
        lines: The header's values, one per occurrence.
        agent: The robot's name; rules for other robots are ignored.
    """
    return any(_OPT_OUT & _rules_for(line, agent.lower()) for line in lines)


def _rules_for(line: str, agent: str) -> set[str]:
    """Return the rules of ``noindex, otherbot: noai, nofollow`` that apply to a robot."""
    rules: set[str] = set()
    concerns = True
    for part in line.lower().split(","):
        name, colon, rest = part.partition(":")
        name = name.strip()
        if colon and name not in _WITH_VALUE and _ROBOT.fullmatch(name):
            concerns = name in {agent, "*"}
            part = rest  # noqa: PLW2901
        if concerns:
            rules.add(part.strip())
    return rules


class NotModifiedError(PipelineError):
    """The content is unchanged since the earlier download; there is no body.

    Args:
        http_status: Of the response.
        validators: For the next conditional request.
    """

    code = "not_modified"

    def __init__(self, http_status: int, validators: Validators) -> None:
        super().__init__("not modified")
        self.http_status = http_status
        self.validators = validators


def redirect_target(response: aiohttp.ClientResponse) -> URL | None:
    """Return the target of a redirect, or None if the response is none.

    Raises:
        RefusedDownloadError: The target is not an acceptable URL.
    """
    if response.status not in _REDIRECTS:
        return None
    location = response.headers.get("Location", "").strip()
    try:
        return _resolve(location, response.url) if location else _nowhere()
    except UnacceptableUrlError as error:
        code = "bad_redirect" if error.code == "invalid_url" else error.code
        detail = f"redirected to an unacceptable URL: {error.detail}"
        raise RefusedDownloadError(code, detail, http_status=response.status) from error
    except ValueError as error:
        detail = f"redirected to an invalid URL: {error}"
        raise RefusedDownloadError("bad_redirect", detail, http_status=response.status) from error


def _resolve(location: str, base: URL) -> URL:
    """Resolve a Location header, which may hold bytes that are not UTF-8 (RFC 9110, 10.2.2).

    aiohttp gives such bytes as lone surrogates; they are sent percent-encoded, as they came.
    """
    location = _RAW_BYTE.sub(lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", location)
    check_characters(location)  # urljoin would drop them
    return to_url(urljoin(str(base), location))


def _nowhere() -> URL:
    raise UnacceptableUrlError("invalid_url", "Location is missing")


def check_status(response: aiohttp.ClientResponse) -> None:
    """Raise unless the response has the requested content.

    Raises:
        RefusedDownloadError, FailedDownloadError: It has another status.
    """
    status = response.status
    if status in {HTTPStatus.OK, HTTPStatus.NON_AUTHORITATIVE_INFORMATION}:
        return
    answer = f"the host answered {status}"
    if code := _code_of_later(status, retry_after := retry_after_seconds(response.headers)):
        raise FailedDownloadError(code, answer, http_status=status, retry_after_seconds=retry_after)
    if status >= HTTPStatus.BAD_REQUEST:
        code = _CODES.get(status, "http_client_error")
        raise RefusedDownloadError(code, answer, http_status=status)
    if status in {HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT}:
        raise RefusedDownloadError("empty_body", answer, http_status=status)
    raise RefusedDownloadError("unexpected_status", answer, http_status=status)


def _code_of_later(status: int, retry_after: float | None) -> DownloadCode | None:
    """Return the code of a transient response, or None if it is final."""
    if status in _NOT_YET:
        return "host_not_ready"
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status in _LIMITS and retry_after is not None):
        return "rate_limited"
    return "http_server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else None


def check_robots_tag(response: aiohttp.ClientResponse, agent: str) -> None:
    """Raise if X-Robots-Tag forbids training on the content.

    Raises:
        RefusedDownloadError: It does.
    """
    if opts_out(response.headers.getall("X-Robots-Tag", ()), agent):
        detail = "the host's X-Robots-Tag forbids training on its content"
        raise RefusedDownloadError("robots_tag", detail, http_status=response.status)


def to_download_error(
    error: Exception, settings: DownloadSettings, total_seconds: float
) -> DownloadError:
    """Translate an exception of the client; ``total_seconds``: limit of the whole download."""
    if isinstance(error, TimeoutError):
        detail = f"not complete within {total_seconds:g} s"
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            detail = f"no connection within {settings.connect_timeout_seconds:g} s"
        elif isinstance(error, aiohttp.SocketTimeoutError):
            detail = f"nothing received for {settings.idle_timeout_seconds:g} s"
        return FailedDownloadError("timeout", detail, most_attempts=DEAD_HOST_ATTEMPTS)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _not_connected(error)
    if isinstance(error, aiohttp.ClientPayloadError):
        return FailedDownloadError("incomplete_body", "incomplete or corrupt response body")
    if isinstance(error, aiohttp.ClientConnectionError | OSError):
        return FailedDownloadError(
            "connection_failed", "connection lost", most_attempts=DEAD_HOST_ATTEMPTS
        )
    # its text holds the URL with its query
    reason = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return RefusedDownloadError("invalid_response", f"not valid HTTP: {reason}"[:300])


def _not_connected(error: aiohttp.ClientConnectorError) -> DownloadError:
    cause = error.os_error
    if isinstance(cause, ForbiddenAddressError):
        # log the address of an internal name, but don't disclose it in the detail
        log.info("address is not public", host=error.host, address=cause.address)
        detail = f"{error.host} is not at a public address"
        return RefusedDownloadError("forbidden_address", detail)
    if isinstance(error, aiohttp.ClientSSLError):
        is_untrusted = isinstance(error, aiohttp.ClientConnectorCertificateError)
        reason = "certificate not trusted" if is_untrusted else "handshake failed"
        return RefusedDownloadError("tls_error", f"TLS {reason}: {error}"[:300])
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        if cause.errno in _NO_SUCH_NAME:
            return RefusedDownloadError("dns_failure", f"unknown host {error.host}")
        return FailedDownloadError(
            "dns_failure",
            f"name resolution of {error.host} failed: {cause.strerror or cause}",
            most_attempts=DEAD_HOST_ATTEMPTS,
        )
    reason = os.strerror(cause.errno) if cause.errno else "connection failed"
    detail = f"{error.host} port {error.port}: {reason}"
    return FailedDownloadError("connection_failed", detail, most_attempts=DEAD_HOST_ATTEMPTS)
