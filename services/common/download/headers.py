"""Response headers: validators, Retry-After and X-Robots-Tag.

See docs/decisions/0014-conditional-requests.md.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from yarl import URL

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
