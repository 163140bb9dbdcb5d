"""What hosts let robots fetch: the Robots Exclusion Protocol (RFC 9309).

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

from services.common.download.answers import check_status
from services.common.download.errors import (
    DownloadError,
    FailedDownloadError,
    RefusedDownloadError,
)
from services.common.download.transport import Body, Transport
from services.common.download.urls import to_url

LARGEST_BYTES = 500 * 1024
"""What must be read of a file at least (RFC 9309, 2.5); nothing after it is."""
KEPT_SECONDS = 24 * 3600.0
"""No longer, says RFC 9309, 2.4."""
UNAVAILABLE_SECONDS = 60.0
"""Until a host whose robots.txt is out of order is asked for it again."""
UNREACHABLE_SECONDS = 1.0
"""Long enough that who asks about a delay and then for a URL waits for a dead host once; shorter
than any pause before another attempt."""
LONGEST_DELAY_SECONDS = 300.0
"""A host that wants an hour between two requests gets fewer, not none."""

_MOST_ORIGINS = 10_000
_MOST_CHARACTERS = 2 * 1024 * 1024
"""Of all files kept; their rules take about twenty times as many bytes."""
_READ_IN_PLACE_CHARACTERS = 8 * 1024
"""Longer files are read and matched in a thread: 500 KiB of wildcards and a URL as long as it may
be take most of a second, and would hold up every other download.
"""
_UNREACHABLE = frozenset(
    {"connection_failed", "dns_failure", "forbidden_address", "timeout", "tls_error"}
)
"""Say more of a host than that its robots.txt is not to be had."""


@dataclass(frozen=True)
class _Rules:
    """What one origin allows."""

    parsed: Protego | None = None
    """None: everything."""
    error: DownloadError | None = None
    """Why nothing is known, and so nothing allowed."""
    size: int = 0
    """Characters."""
    kept_seconds: float = KEPT_SECONDS
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """A file made to be slow takes one thread, not all."""


class RobotsPolicy:
    """Asks each origin once a day what it allows.

    Args:
        transport: Fetches robots.txt.
        agent: Name that robots.txt may call the fetcher by.
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
        """Return where a URL may be fetched.

        Raises:
            RefusedDownloadError: It may not, or its host cannot be fetched from at all.
            FailedDownloadError: It is not known whether it may.
        """
        rules = await self._rules(url.origin())
        if rules.error:
            raise _renewed(rules.error)
        if rules.parsed and not await self._allows(rules, rules.parsed, str(url)):
            raise RefusedDownloadError("robots_disallowed", "the host's robots.txt disallows it")

    async def delay(self, url: str) -> float | None:
        """Return how many seconds a host wants between two requests, or None if it does not say.

        Its robots.txt is fetched where it is not known. Never raises a DownloadError.

        Args:
            url: An accepted URL.
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
        """Give up what is under way."""
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
        return await asyncio.shield(task)  # others wait for it too

    async def _load(self, origin: URL) -> _Rules:
        asked: list[URL] = []
        try:
            with self._transport.sorted_errors():
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
            asked.append(hop)  # and no more: nothing says whether robots.txt may be fetched

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
    """Rules by origin, the least recently used going first."""

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
    """Return what is allowed where no robots.txt was received (RFC 9309, 2.3.1).

    A host that answers 429 is treated as one that is out of order, as Google does, not as one that
    has no file.
    """
    if error.code in _UNREACHABLE and not was_redirected:
        return _Rules(error=error, kept_seconds=UNREACHABLE_SECONDS)
    is_out_of_order = isinstance(error, FailedDownloadError) or error.http_status is None
    if error.code == "too_many_redirects" or not is_out_of_order:
        return _Rules()
    pause = getattr(error, "retry_after_seconds", None)
    unavailable = FailedDownloadError(
        "robots_unavailable",
        f"its robots.txt, which may forbid it, could not be had: {error.code}",
        http_status=error.http_status,
        retry_after_seconds=pause,
    )
    return _Rules(error=unavailable, kept_seconds=max(UNAVAILABLE_SECONDS, pause or 0.0))


def _renewed(error: DownloadError) -> DownloadError:
    """Return an error like one that was raised before: it must not be raised twice."""
    if isinstance(error, RefusedDownloadError):
        return RefusedDownloadError(error.code, error.detail, http_status=error.http_status)
    return FailedDownloadError(
        error.code,
        error.detail,
        http_status=error.http_status,
        most_attempts=error.most_attempts,
        retry_after_seconds=error.retry_after_seconds,
    )
