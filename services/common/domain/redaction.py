"""Redact secrets in URLs that are stored or shown.

See docs/decisions/0015-source-urls-without-secrets.md.

``Redactor`` makes the stored form: only values that look like secrets are removed. Code without the
fetcher's settings reads the stored form, or uses ``hide_secrets`` for displayed text and
``may_be_kept_as`` to find the stored form of a URL.
"""

import re
from collections.abc import Iterable
from urllib.parse import unquote_plus

from services.common.domain.provenance import SUBMITTED

REDACTED = "REDACTED"
_BEFORE_QUERY = re.compile("[^?#]*")
_USERS = re.compile(r"(?<=//)[^/?#\s]*@(?:/[^/?#\s]*@)*")
"""User info, up to the last ``@``, also of URLs in a path. Without ``user@``, what follows in
``//user@/other@`` is behind ``//``: it is removed at once, so redacting twice changes nothing."""
_DEEPEST_ENCODING = 3
"""Levels of URLs within URLs to decode; two occur in practice."""
_LONG_NAME = 5
"""Minimum length of a listed name that also matches as a suffix: ``accesstoken``."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+")
_INNER = re.compile(r"(?:^|[?&;#~,{])\s*([^=?&;#~,{]*)=")
_JWT = re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*")
"""A JWT, redacted under any parameter name (RFC 7519)."""
_SHOWN_SECRETS = re.compile(
    r"(?<=\?)[^\s'\"<>]+|(?<=[#;])[^\s'\"<>#;=]+=[^\s'\"<>]+|(?<=//)[^/?#\s]*(?=@)"
)
_SUBMITTED_DIGEST = re.compile(rf"{SUBMITTED}[0-9a-f]{{64}}/")


def hide_secrets(text: str) -> str:
    """Remove query, parameters and user info of all URLs in a text."""
    return _SHOWN_SECRETS.sub("…", hide_digest(text))


def hide_digest(text: str) -> str:
    """Remove the secret part of addresses of submitted files in a text."""
    return _SUBMITTED_DIGEST.sub(SUBMITTED, text)


def may_be_kept_as(url: str, kept: str) -> bool:
    """Return whether a redacted URL may be the stored form of ``url``, for any redacted names."""
    parts = (re.escape(part) for part in kept.split(f"={REDACTED}"))
    return re.fullmatch("=[^&;#]*".join(parts), _without_users(url)) is not None


def beginning(url: str) -> str:
    """Return the part of a URL that is never redacted: up to its first parameter."""
    return re.split("[?;#]", _without_users(url), maxsplit=1)[0]


class Redactor:
    """Redacts the values of some parameters.

    A parameter matches if its name, one of its words, or several in a row, are a listed name:
    ``auth`` means ``X-Auth-User``, ``api_key`` means ``myApiKey[]``. Words may also end in a
    listed name of five letters or more. Case and separators do not matter.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._listed = tuple(filter(None, (_words(name) for name in names)))

    def redact(self, url: str) -> str:
        """Return a URL without the secrets in path parameters, query, fragment, and its user.

        Everything else is unchanged, byte by byte; the function is idempotent. A value that holds a
        URL with a secret is replaced as a whole.
        """
        rest, mark, fragment = _without_users(url).partition("#")
        path, question, query = rest.partition("?")
        cleaned = "/".join(self._clean_segment(segment) for segment in path.split("/"))
        return f"{cleaned}{question}{self._clean(query)}{mark}{self._clean(fragment)}"

    def _clean_segment(self, segment: str) -> str:
        name, *parameters = segment.split(";")  # RFC 3986, section 3.3
        return ";".join((name, *(self._clean_pair(each) for each in parameters)))

    def _clean(self, text: str) -> str:
        parts = re.split("([&;])", text)
        return "".join(self._clean_pair(part) for part in parts)

    def _clean_pair(self, pair: str) -> str:
        name, equals, value = pair.partition("=")
        if equals and (self._is_meant(_decoded(name)) or self._is_secret(_decoded(value))):
            return f"{name}={REDACTED}"
        return pair

    def _is_meant(self, name: str) -> bool:
        words = _words(name)
        spelt, whole = f"-{'-'.join(words)}-", "".join(words)
        return any(
            f"-{'-'.join(listed)}-" in spelt or _ends_in(whole, "".join(listed))
            for listed in self._listed
        )

    def _is_secret(self, value: str) -> bool:
        if _JWT.search(value) or _USERS.search(value):
            return bool(self._listed)
        return any(self._is_meant(name) for name in _INNER.findall(value))


def _without_users(url: str) -> str:
    return _BEFORE_QUERY.sub(lambda before: _USERS.sub("", before[0]), url, count=1)


def _words(name: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in _WORD.findall(name))


def _ends_in(whole: str, listed: str) -> bool:
    return whole == listed or (len(listed) >= _LONG_NAME and whole.endswith(listed))


def _decoded(text: str) -> str:
    for _ in range(_DEEPEST_ENCODING):
        decoded = unquote_plus(text)
        if decoded == text:
            break
        text = decoded
    return text
