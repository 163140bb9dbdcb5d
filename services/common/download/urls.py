"""Which URLs are fetched at all: of a list and of every redirect alike."""

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
"""What a path may hold as it is, beside letters and digits (RFC 3986, 3.3)."""
_QUERY_CHARACTERS = _PATH_CHARACTERS + "?"


class UnacceptableUrlError(PermanentError):
    """The URL is not one to fetch.

    Args:
        code: ``invalid_url``, ``unsupported_scheme``, ``credentials_in_url`` or ``url_too_long``.
        detail: What is wrong with it; never holds the URL itself.
    """

    def __init__(self, code: DownloadCode, detail: str) -> None:
        super().__init__(detail)
        self.code: DownloadCode = code
        self.detail = detail


def to_url(text: str) -> URL:
    """Parse an absolute http or https URL to ASCII, as it was written, without its fragment.

    The host is in IDNA form. What is valid in path and query stays as it is, percent-encoding
    included: hosts that sign URLs compare them byte for byte. Only what is not valid there is
    percent-encoded (RFC 3986), and dot segments are removed, as browsers do.

    Raises:
        UnacceptableUrlError: It is not one to fetch.
    """
    text = text.strip()
    if not text:
        raise UnacceptableUrlError("invalid_url", "it is empty")
    if len(text) > MAX_URL_LENGTH:
        raise UnacceptableUrlError("url_too_long", f"more than {MAX_URL_LENGTH} characters")
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
        raise UnacceptableUrlError("url_too_long", f"more than {MAX_URL_LENGTH} characters")
    return url


def check_characters(text: str) -> None:
    """Refuse a URL with control characters.

    Raises:
        UnacceptableUrlError: It holds one.
    """
    if _CONTROL.search(text.replace(" ", "")):
        raise UnacceptableUrlError("invalid_url", "it holds a control character")


def spellings(url: str) -> set[str]:
    """Return the forms in which a URL may have been kept, for a look-up by any of them.

    As it is given, as it is requested, and normalised (RFC 3986, 6.2.2).
    """
    forms = {url}
    with suppress(UnacceptableUrlError):  # somebody's upload may name what is not fetched
        requested = str(to_url(url))
        forms |= {requested, str(URL(requested))}
    return forms


def _as_written(text: str, url: URL) -> URL:
    """Return a parsed URL with path and query as they were written.

    One with dot segments stays normalised: what is sent is then not what was written anyway.
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
    """Percent-encode what is not valid in a part of a URL, a stray percent sign included."""
    return quote(_STRAY_PERCENT.sub("%25", text), safe=valid)


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
