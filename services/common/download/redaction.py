"""Takes secrets out of URLs that are kept or shown."""

import re
from collections.abc import Iterable
from urllib.parse import unquote_plus

REDACTED = "REDACTED"
_USER = re.compile(r"(?<=//)[^/?#@\s]*@")
_DEEPEST_ENCODING = 3
"""So often a URL within a URL is decoded: two levels are seen in the wild."""


class Redactor:
    """Replaces the values of some query parameters.

    Args:
        names: Of the parameters; case does not matter.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.lower() for name in names)
        listed = "|".join(re.escape(name) for name in sorted(self._names)) or r"(?!)"
        self._inner = re.compile(rf"(?:^|[?&;#])(?:{listed})=", re.IGNORECASE)

    def redact(self, url: str) -> str:
        """Return a URL without the secrets in its query, its fragment, and before its host.

        Everything else stays as it is, byte by byte; redacting twice changes nothing more. A value
        that holds a URL with a secret of its own is replaced as a whole.
        """
        rest, mark, fragment = _USER.sub("", url, count=1).partition("#")
        path, question, query = rest.partition("?")
        return f"{path}{question}{self._clean(query)}{mark}{self._clean(fragment)}"

    def _clean(self, text: str) -> str:
        parts = re.split("([&;])", text)
        return "".join(self._clean_pair(part) for part in parts)

    def _clean_pair(self, pair: str) -> str:
        name, equals, value = pair.partition("=")
        if equals and (_decoded(name).strip().lower() in self._names or self._is_secret(value)):
            return f"{name}={REDACTED}"
        return pair

    def _is_secret(self, value: str) -> bool:
        return self._inner.search(_decoded(value)) is not None


def _decoded(text: str) -> str:
    for _ in range(_DEEPEST_ENCODING):
        decoded = unquote_plus(text)
        if decoded == text:
            break
        text = decoded
    return text
