"""Validate URLs, of lists and of redirects alike."""

import re
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import quote

from yarl import URL

from services.common.domain.errors import PermanentError
from services.common.download.errors import DownloadCode

MAX_URL_LENGTH = 8000
"""Characters once percent-encoded; servers refuse request lines beyond 8 KiB."""

_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_.])?|[0-9a-f:.]*:[0-9a-f:.]*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label that makes a name an address (WHATWG URL Standard, "ends in a number")."""
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_AUTHORITY = re.compile(r"[^:/?#]+://[^/?#]*")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PATH_CHARACTERS = "%/:@!$&'()*+,;=-._~"
"""Characters of a path that need no encoding, beside letters and digits (RFC 3986, 3.3)."""
_QUERY_CHARACTERS = _PATH_CHARACTERS + "?"


class UnacceptableUrlError(PermanentError):
    """The URL is not acceptable.

    Args:
        code: ``invalid_url``, ``unsupported_scheme``, ``credentials_in_url`` or ``url_too_long``.
        detail: Reason; never holds the URL itself.
    """

    def __init__(self, code: DownloadCode, detail: str) -> None:
        super().__init__(detail)
        self.code: DownloadCode = code
        self.detail = detail


def to_url(text: str) -> URL:
    """Parse an absolute http or https URL to ASCII, as it was written, without its fragment.

    The host is in IDNA form. Valid characters of path and query are unchanged, percent-encoding
    included: hosts that sign URLs compare them byte for byte. Invalid ones are percent-encoded
    (RFC 3986), and dot segments are removed, as browsers do.

    Raises:
        UnacceptableUrlError: It is not acceptable.
    """
    text = text.strip()
    if not text:
        raise UnacceptableUrlError("invalid_url", "URL is empty")
    if len(text) > MAX_URL_LENGTH:
        raise UnacceptableUrlError("url_too_long", f"URL has more than {MAX_URL_LENGTH} characters")
    check_characters(text)
    try:
        text.encode()  # yarl would drop a lone surrogate
        url = URL(text).with_fragment(None)
        port = url.port
    except (ValueError, UnicodeError) as error:
        raise UnacceptableUrlError("invalid_url", f"not a URL: {error}"[:200]) from error
    _check(url, port)
    url = _as_written(text, url)
    if len(str(url)) > MAX_URL_LENGTH:
        raise UnacceptableUrlError("url_too_long", f"URL has more than {MAX_URL_LENGTH} characters")
    return url


def check_characters(text: str) -> None:
    """Refuse a URL with control characters.

    Raises:
        UnacceptableUrlError: It holds one.
    """
    if _CONTROL.search(text.replace(" ", "")):
        raise UnacceptableUrlError("invalid_url", "URL contains a control character")


def spellings(url: str) -> set[str]:
    """Return the forms in which a URL may have been stored, for a look-up by any of them.

    As it is given, as it is requested, and normalised (RFC 3986, 6.2.2).
    """
    forms = {url}
    with suppress(UnacceptableUrlError):  # the metadata of an upload may hold an unacceptable URL
        requested = str(to_url(url))
        forms |= {requested, str(URL(requested))}
    return forms


def _as_written(text: str, url: URL) -> URL:
    """Return a parsed URL with the original path and query.

    A path with dot segments stays normalised.
    """
    authority = _AUTHORITY.match(text)
    rest = text[authority.end() :].partition("#")[0] if authority else ""
    path, _, query = rest.partition("?")
    if url.raw_path == (path or "/") and url.raw_query_string == query:
        return url
    if not {".", ".."}.isdisjoint(path.split("/")):
        return url
    written = _quoted(path, _PATH_CHARACTERS)
    if query:
        written += f"?{_quoted(query, _QUERY_CHARACTERS)}"
    return URL(f"{url.origin()}{written}", encoded=True)


def _quoted(text: str, valid: str) -> str:
    """Percent-encode invalid characters in a part of a URL, including stray percent signs."""
    return quote(_STRAY_PERCENT.sub("%25", text), safe=valid)


def host_of(url: str) -> str:
    """Return the host and port of an accepted URL: ``example.org``, ``[::1]:8080``.

    A trailing dot of a name is dropped.
    """
    host = url.partition("://")[2].partition("/")[0].partition("?")[0].lower()
    name, colon, port = host.partition(".:")
    return f"{name}:{port}" if colon else name.removesuffix(".")


def _check(url: URL, port: int | None) -> None:
    if not url.scheme:
        raise UnacceptableUrlError("invalid_url", "URL must start with http:// or https://")
    if url.scheme not in {"http", "https"}:
        raise UnacceptableUrlError("unsupported_scheme", "unsupported scheme: use http or https")
    if url.raw_user is not None or url.raw_password is not None:
        raise UnacceptableUrlError("credentials_in_url", "URL must not contain credentials")
    if not url.raw_host:
        raise UnacceptableUrlError("invalid_url", "URL has no host")
    if not _is_host(url.raw_host):
        raise UnacceptableUrlError("invalid_url", "host is not a valid name or address")
    if port == 0:
        raise UnacceptableUrlError("invalid_url", "port must not be 0")
    if len(str(url)) > MAX_URL_LENGTH:
        raise UnacceptableUrlError("url_too_long", f"URL has more than {MAX_URL_LENGTH} characters")


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
