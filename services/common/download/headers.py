"""What headers of an answer mean to whoever fetches it again.

See docs/decisions/0014-conditional-requests.md.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from yarl import URL

LONGEST_RETRY_AFTER_SECONDS = 3600.0
"""A host that wants to be left alone for a year is asked again after an hour."""

_ETAG = re.compile(r'(?:W/)?"[!#-~]{0,256}"')
_HTTP_DATE = re.compile(r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT")
_LONGEST_DATE = 40
_ROBOT = re.compile(r"\*|(?=.*[a-z])[!#-'+.^-z|~0-9-]+")
"""A product token (RFC 9110, 5.6.2): no spaces, so that no date with a comma counts as one."""
_OPT_OUT = frozenset({"noai", "noimageai"})
_WITH_VALUE = frozenset(
    {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}
)
"""Rules written as ``name: value``, which is how a robot's name is written as well."""


@dataclass(frozen=True)
class Validators:
    """What tells whether a resource is still the one fetched before (RFC 9110, 8.8).

    Args:
        etag: Strong or weak, as received.
        last_modified: As received.
        url: Where they came from, after redirects; None: from the URL that is asked for.
    """

    etag: str | None = None
    last_modified: str | None = None
    url: str | None = None

    def conditions(self, url: URL, *, is_first: bool) -> dict[str, str]:
        """Return the headers that ask one URL of a chain of redirects for news only.

        They are for the resource they came from alone: the tag of another one says nothing, might
        be the same by chance, and would tell one host what another one said. Whatever is not
        exactly what a host may send (RFC 9110) is left out.
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
    """Return an entity tag that may be kept and sent back, or None."""
    return value if value and _ETAG.fullmatch(value) else None


def clean_date(value: str | None) -> str | None:
    """Return a date in the preferred format of HTTP, or None."""
    return value if value and _HTTP_DATE.fullmatch(value) else None


def retry_after_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return how long a host wants to be left alone (RFC 9110, 10.2.3), an hour at most.

    Args:
        headers: Of its answer.
        now: Time, for tests.

    Returns:
        Seconds; None where it does not say, or not so that it can be understood.
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
    """Return whether X-Robots-Tag keeps an image from being learnt from: ``noai``, ``noimageai``.

    Args:
        lines: The header's values, one a time that it was sent.
        agent: The robot's own name; rules for another robot do not concern it.
    """
    return any(_OPT_OUT & _rules_for(line, agent.lower()) for line in lines)


def _rules_for(line: str, agent: str) -> set[str]:
    """Return the rules of ``noindex, otherbot: noai, nofollow`` that concern a robot."""
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
