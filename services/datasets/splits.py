"""Splits of a data set, decided by a hash, so they are stable as data grows.

See docs/decisions/0018-splits-by-hash.md.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from urllib.parse import urlsplit

from typing_extensions import override

from services.common.domain.records import Source

NAMES = ("train", "validation", "test")
_SALT = b"docreco-split-1:"
"""Salt of the hash; another one gives another partition."""


@dataclass(frozen=True)
class Split:
    """Shares of train, validation and test; the later ones may be missing."""

    shares: tuple[int, ...]

    @override
    def __str__(self) -> str:
        """Format the shares."""
        return "/".join(map(str, self.shares))

    def place(self, identity: str) -> str:
        """Return the part of an identity, independent of other data."""
        digest = hashlib.sha256(_SALT + identity.encode()).digest()
        at = int.from_bytes(digest[:8]) / 2**64 * sum(self.shares)
        ends = accumulate(self.shares)
        return next(name for name, end in zip(NAMES, ends, strict=False) if at < end)


def parse_split(text: str) -> Split:
    """Parse shares such as ``80/10/10``, ``90/10`` or ``100``.

    Raises:
        ValueError: They are invalid.
    """
    parts = text.split("/")
    if len(parts) > len(NAMES) or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"{text!r} is not a split; write 80/10/10 (train, validation, test)")
    shares = tuple(int(part[:9]) for part in parts)
    if shares[0] < 1:
        raise ValueError("nothing is left to train on")
    return Split(shares)


def hosts_of(sources: Iterable[Source]) -> list[str]:
    """Return the distinct hosts of an image's sources, sorted by time."""
    return list(dict.fromkeys(name for each in sources if (name := _host_name(each.url or ""))))


def _host_name(url: str) -> str:
    """Return the host of a URL in lower case, without its port; empty if there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
