"""What a host's answer, or its silence, means."""

import socket
from http import HTTPStatus

import aiohttp
from yarl import URL

from services.common.download.errors import (
    DownloadError,
    FailedDownloadError,
    RefusedDownloadError,
)
from services.common.download.guard import ForbiddenAddressError
from services.common.download.headers import opts_out, retry_after_seconds
from services.common.download.settings import DownloadSettings
from services.common.download.urls import UnacceptableUrlError, to_url

DEAD_HOST_ATTEMPTS = 2
"""One quick retry, then give up: what does not answer twice will rarely answer in a minute."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CODES = {401: "forbidden", 403: "forbidden", 404: "not_found", 410: "gone", 451: "forbidden"}
_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


def redirect_target(response: aiohttp.ClientResponse) -> URL | None:
    """Return where an answer redirects to, or None where it is none.

    Raises:
        RefusedDownloadError: It redirects to what is not fetched.
    """
    if response.status not in _REDIRECTS:
        return None
    location = response.headers.get("Location", "")
    try:
        return to_url(str(response.url.join(URL(location)))) if location else _nowhere()
    except UnacceptableUrlError as error:
        code = "bad_redirect" if error.code == "invalid_url" else error.code
        detail = f"redirected to a URL that is not fetched: {error.detail}"
        raise RefusedDownloadError(code, detail, http_status=response.status) from error
    except ValueError as error:
        detail = f"redirected to what is no URL: {error}"
        raise RefusedDownloadError("bad_redirect", detail, http_status=response.status) from error


def _nowhere() -> URL:
    raise UnacceptableUrlError("invalid_url", "there is no Location")


def check_status(response: aiohttp.ClientResponse) -> None:
    """Return where the answer has the content that was asked for.

    Raises:
        RefusedDownloadError, FailedDownloadError: It has not.
    """
    status = response.status
    if status in {HTTPStatus.OK, HTTPStatus.NON_AUTHORITATIVE_INFORMATION}:
        return
    answer = f"the host answered {status}"
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        is_limit = status == HTTPStatus.TOO_MANY_REQUESTS
        raise FailedDownloadError(
            "rate_limited" if is_limit else "http_server_error",
            answer,
            http_status=status,
            retry_after_seconds=retry_after_seconds(response.headers),
        )
    if status >= HTTPStatus.BAD_REQUEST:
        code = _CODES.get(status, "http_client_error")
        raise RefusedDownloadError(code, answer, http_status=status)
    if status in {HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT}:
        raise RefusedDownloadError("empty_body", answer, http_status=status)
    raise RefusedDownloadError("unexpected_status", answer, http_status=status)


def check_robots_tag(response: aiohttp.ClientResponse, agent: str) -> None:
    """Return where the answer does not forbid to learn from its content.

    Raises:
        RefusedDownloadError: It does.
    """
    if opts_out(response.headers.getall("X-Robots-Tag", ()), agent):
        detail = "the host's X-Robots-Tag keeps its content from being learnt from"
        raise RefusedDownloadError("robots_tag", detail, http_status=response.status)


def to_download_error(error: Exception, settings: DownloadSettings) -> DownloadError:
    """Sort what the client raised."""
    if isinstance(error, TimeoutError):
        detail = (
            f"no answer within {settings.connect_timeout_seconds:g} s to connect, "
            f"{settings.idle_timeout_seconds:g} s between reads "
            f"or {settings.total_timeout_seconds:g} s in all"
        )
        return FailedDownloadError("timeout", detail, most_attempts=DEAD_HOST_ATTEMPTS)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _not_connected(error)
    if isinstance(error, aiohttp.ClientPayloadError):
        return FailedDownloadError("incomplete_body", "the answer broke off, or is garbled")
    if isinstance(error, aiohttp.ClientConnectionError | OSError):
        return FailedDownloadError(
            "connection_failed", "the connection was lost", most_attempts=DEAD_HOST_ATTEMPTS
        )
    # its text would name the URL, with all that is in its query
    reason = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return RefusedDownloadError("invalid_response", f"not valid HTTP: {reason}"[:300])


def _not_connected(error: aiohttp.ClientConnectorError) -> DownloadError:
    cause = error.os_error
    if isinstance(cause, ForbiddenAddressError):
        detail = f"{error.host} is at {cause.address}, which is not a public address"
        return RefusedDownloadError("forbidden_address", detail)
    if isinstance(error, aiohttp.ClientSSLError):
        return RefusedDownloadError("tls_error", f"no trusted connection: {error}"[:300])
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        if cause.errno in _NO_SUCH_NAME:
            return RefusedDownloadError("dns_failure", f"there is no host {error.host}")
        return FailedDownloadError(
            "dns_failure",
            f"the address of {error.host} could not be found: {cause.strerror or cause}",
            most_attempts=DEAD_HOST_ATTEMPTS,
        )
    detail = f"{error.host} port {error.port}: {cause.strerror or cause}"
    return FailedDownloadError("connection_failed", detail, most_attempts=DEAD_HOST_ATTEMPTS)
