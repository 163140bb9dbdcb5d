"""Which URLs are fetched at all: of a list and of every redirect alike."""

import re
from ipaddress import ip_address

from yarl import URL

from services.common.errors import PermanentError

MAX_URL_LENGTH = 8000
"""Characters once percent-encoded; servers refuse request lines beyond 8 KiB."""

_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_.])?|[0-9a-f:.]*:[0-9a-f:.]*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label that makes a name an address (WHATWG URL Standard, "ends in a number")."""
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


class UnacceptableUrlError(PermanentError):
    """The URL is not one to fetch.

    Args:
        code: ``invalid_url``, ``unsupported_scheme``, ``credentials_in_url`` or ``url_too_long``.
        detail: What is wrong with it; never holds the URL itself.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def to_url(text: str) -> URL:
    """Parse an absolute http or https URL and normalise it to ASCII, without its fragment.

    The host is in IDNA form, path and query are percent-encoded (RFC 3986).

    Raises:
        UnacceptableUrlError: It is not one to fetch.
    """
    text = text.strip()
    if not text:
        raise UnacceptableUrlError("invalid_url", "it is empty")
    if len(text) > MAX_URL_LENGTH:
        raise UnacceptableUrlError("url_too_long", f"more than {MAX_URL_LENGTH} characters")
    if _CONTROL.search(text.replace(" ", "")):
        raise UnacceptableUrlError("invalid_url", "it holds a control character")
    try:
        text.encode()  # yarl would drop a lone surrogate
        url = URL(text).with_fragment(None)
        port = url.port
    except (ValueError, UnicodeError) as error:
        raise UnacceptableUrlError("invalid_url", f"not a URL: {error}"[:200]) from error
    _check(url, port)
    return url


def host_of(url: str) -> str:
    """Return the host of an accepted URL as it is asked for: ``example.org``, ``[::1]:8080``.

    A dot at the end of a name makes no other host of it.
    """
    host = url.partition("://")[2].partition("/")[0].partition("?")[0].lower()
    name, colon, port = host.partition(".:")
    return f"{name}:{port}" if colon else name.removesuffix(".")


def _check(url: URL, port: int | None) -> None:
    if not url.scheme:
        raise UnacceptableUrlError("invalid_url", "it does not begin with http:// or https://")
    if url.scheme not in {"http", "https"}:
        raise UnacceptableUrlError("unsupported_scheme", "only http and https are fetched")
    if url.raw_user is not None or url.raw_password is not None:
        raise UnacceptableUrlError("credentials_in_url", "it holds a user name or password")
    if not url.raw_host:
        raise UnacceptableUrlError("invalid_url", "it has no host")
    if not _is_host(url.raw_host):
        raise UnacceptableUrlError("invalid_url", "its host is not a name or an address")
    if port == 0:
        raise UnacceptableUrlError("invalid_url", "its port is 0")
    if len(str(url)) > MAX_URL_LENGTH:
        raise UnacceptableUrlError("url_too_long", f"more than {MAX_URL_LENGTH} characters")


def _is_host(host: str) -> bool:
    if not _HOST.fullmatch(host):
        return False
    labels = host.removesuffix(".").split(".")
    if ":" in host or _NUMBER.fullmatch(labels[-1]):
        return _is_address(host)  # 2130706433, 0x7f.1 and 0177.0.0.1 are ways to hide 127.0.0.1
    return len(host) <= 253 and all(0 < len(label) <= 63 for label in labels)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
