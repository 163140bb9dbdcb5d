"""Robots Exclusion Protocol (RFC 9309).

See docs/decisions/0016-robots-txt.md.
"""

import asyncio
import math
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from protego import Protego
from yarl import URL

from services.common.download.errors import (
    DownloadError,
    FailedDownloadError,
    RefusedDownloadError,
)
from services.common.download.responses import check_status
from services.common.download.transport import Body, Transport
from services.common.download.urls import to_url

LARGEST_BYTES = 500 * 1024
"""Parsing limit of a file (RFC 9309, 2.5)."""
KEPT_SECONDS = 24 * 3600.0
"""Longest cache time (RFC 9309, 2.4)."""
UNAVAILABLE_SECONDS = 60.0
"""Cache time of an unavailable robots.txt."""
UNREACHABLE_SECONDS = 1.0
"""Cache time of an unresponsive host: covers the look-up of the delay and of the URL, but ends
before any retry."""
LONGEST_DELAY_SECONDS = 300.0
"""Limit of ``Crawl-delay``."""

_MOST_ORIGINS = 10_000
_MOST_CHARACTERS = 2 * 1024 * 1024
"""Cache size, in bytes of files; parsed rules take about twenty times as many."""
_READ_IN_PLACE_CHARACTERS = 8 * 1024
"""Longer files are parsed and matched in a thread: 500 KiB of wildcards and a URL of the maximum
length take most of a second, which would block all other downloads.
"""
_UNREACHABLE = frozenset(
    {"connection_failed", "dns_failure", "forbidden_address", "timeout", "tls_error"}
)
"""Codes that describe the host better than ``robots_unavailable``."""


@dataclass
class _Rules:
    """The rules of one origin."""

    parsed: Protego | None = None
    """None: all is allowed."""
    error: DownloadError | None = None
    """Error that makes the rules unknown, so nothing is allowed."""
    was_raised: bool = False
    size: int = 0
    """Characters."""
    kept_seconds: float = KEPT_SECONDS
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Serialises matching per origin, so that a pathological file blocks one thread only."""


class RobotsPolicy:
    """Fetches and caches the robots.txt of each origin for a day.

    Args:
        transport: Fetches robots.txt.
        agent: The fetcher's name in robots.txt.
        timeout_seconds: Limit to fetch one.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        agent: str,
        timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._agent = agent
        self._timeout_seconds = timeout_seconds
        self._cache = _Cache(clock)
        self._under_way: dict[URL, asyncio.Task[_Rules]] = {}

    async def check(self, url: URL) -> None:
        """Raise unless a URL may be fetched.

        Raises:
            RefusedDownloadError: It is disallowed, or its host can't be reached permanently.
            FailedDownloadError: robots.txt is unavailable.
        """
        rules = await self._rules(url.origin())
        if rules.error:
            error = _renewed(rules.error, is_repeated=rules.was_raised)
            rules.was_raised = True
            raise error
        if rules.parsed and not await self._allows(rules, rules.parsed, str(url)):
            raise RefusedDownloadError("robots_disallowed", "disallowed by robots.txt")

    async def crawl_delay(self, url: str) -> float | None:
        """Return the ``Crawl-delay`` of a host in seconds, or None.

        Fetches its robots.txt if unknown. Never raises a DownloadError.
        """
        parsed = (await self._rules(to_url(url).origin())).parsed
        if parsed is None:
            return None
        rate = parsed.request_rate(self._agent)
        wanted = [
            parsed.crawl_delay(self._agent) or 0.0,
            rate.seconds / rate.requests if rate and rate.requests else 0.0,
        ]
        longest = max((each for each in wanted if math.isfinite(each)), default=0.0)
        return min(longest, LONGEST_DELAY_SECONDS) if longest > 0 else None

    async def close(self) -> None:
        """Cancel running requests."""
        tasks = tuple(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _rules(self, origin: URL) -> _Rules:
        kept = self._cache.find(origin)
        if kept:
            return kept
        task = self._under_way.get(origin)
        if task is None:
            task = asyncio.create_task(self._load(origin))
            self._under_way[origin] = task
            task.add_done_callback(lambda _: self._under_way.pop(origin))
        return await asyncio.shield(task)  # it is shared with other callers

    async def _load(self, origin: URL) -> _Rules:
        asked: list[URL] = []
        try:
            with self._transport.translate_errors(self._timeout_seconds):
                async with asyncio.timeout(self._timeout_seconds):
                    text = await self._fetch(origin / "robots.txt", asked)
        except (RefusedDownloadError, FailedDownloadError) as error:
            rules = _without_file(error, was_redirected=len(asked) > 1)
        else:
            parse = Protego.parse
            large = len(text) > _READ_IN_PLACE_CHARACTERS
            parsed = await asyncio.to_thread(parse, text) if large else parse(text)
            rules = _Rules(parsed, size=len(text))
        self._cache.keep(origin, rules)
        return rules

    async def _fetch(self, url: URL, asked: list[URL]) -> str:
        async def note(hop: URL) -> None:
            asked.append(hop)  # robots.txt itself needs no permission

        async with AsyncExitStack() as stack:
            response = await self._transport.open(url, stack, note)
            check_status(response)
            body = Body(response, self._transport, max_bytes=sys.maxsize)
            content = bytearray()
            async for piece in body:
                content += piece
                if len(content) >= LARGEST_BYTES:
                    response.close()
                    break
        return content[:LARGEST_BYTES].decode("utf-8-sig", "replace")

    async def _allows(self, rules: _Rules, parsed: Protego, url: str) -> bool:
        if rules.size > _READ_IN_PLACE_CHARACTERS:
            async with rules.turn:
                return await asyncio.to_thread(parsed.can_fetch, url, self._agent)
        return parsed.can_fetch(url, self._agent)


class _Cache:
    """LRU cache of rules by origin."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: OrderedDict[URL, tuple[float, _Rules]] = OrderedDict()
        self._size = 0

    def find(self, origin: URL) -> _Rules | None:
        entry = self._entries.get(origin)
        if entry is None:
            return None
        expires, rules = entry
        if self._clock() >= expires:
            self._drop(origin)
            return None
        self._entries.move_to_end(origin)
        return rules

    def keep(self, origin: URL, rules: _Rules) -> None:
        self._drop(origin)
        self._entries[origin] = (self._clock() + rules.kept_seconds, rules)
        self._size += rules.size
        while len(self._entries) > _MOST_ORIGINS or self._size > _MOST_CHARACTERS:
            self._drop(next(iter(self._entries)))

    def _drop(self, origin: URL) -> None:
        entry = self._entries.pop(origin, None)
        if entry:
            self._size -= entry[1].size


def _without_file(error: DownloadError, *, was_redirected: bool) -> _Rules:
    """Return the rules if no robots.txt was received (RFC 9309, 2.3.1).

    A 429 counts as unavailable, as for Google, not as a missing file.
    """
    if error.code in _UNREACHABLE and not was_redirected:
        return _Rules(error=error, kept_seconds=UNREACHABLE_SECONDS)
    is_out_of_order = isinstance(error, FailedDownloadError) or error.http_status is None
    if error.code == "too_many_redirects" or not is_out_of_order:
        return _Rules()
    pause = getattr(error, "retry_after_seconds", None)
    unavailable = FailedDownloadError(
        "robots_unavailable",
        f"robots.txt unavailable: {error.code}",
        http_status=error.http_status,
        retry_after_seconds=pause,
    )
    return _Rules(error=unavailable, kept_seconds=max(UNAVAILABLE_SECONDS, pause or 0.0))


def _renewed(error: DownloadError, *, is_repeated: bool) -> DownloadError:
    """Return a copy of an error, as an instance must not be raised twice."""
    if isinstance(error, RefusedDownloadError):
        return RefusedDownloadError(error.code, error.detail, http_status=error.http_status)
    renewed = FailedDownloadError(
        error.code,
        error.detail,
        http_status=error.http_status,
        most_attempts=error.most_attempts,
        retry_after_seconds=error.retry_after_seconds,
    )
    renewed.is_repeated = is_repeated
    return renewed
