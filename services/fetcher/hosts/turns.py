"""Whose turn it is: hosts take turns, each within its limits.

Work on one host is all in one process (see ``services.common.partitions``), so its limits are kept
here, in memory. A download that lasts counts against its host's limit, and after a second no more
against that of all: slow and dead hosts would else use up what the others could have.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiolimiter import AsyncLimiter

from services.common.download.errors import FailedDownloadError
from services.common.errors import PostponedError
from services.fetcher.hosts.host import Host

YOUNG_SECONDS = 1.0
OLD_PER_YOUNG = 4
"""Downloads in all, for each that may be young: their memory and sockets have a limit too."""
SHORT_SECONDS = 5.0
"""The shortest delay queue: what waits less long is kept here."""
LONG_SECONDS = 30.0
HELD_PER_HOST = 64
"""So many wait here however slow their host is: it never idles, and others find room."""
MOST_POSTPONED = 20
"""So often work waits for a host that asked for peace; then it counts as an attempt."""
POSTPONED_PER_SECOND = 200
KNOWN_HOSTS = 10_000

_SILENT = frozenset({"timeout", "connection_failed", "dns_failure"})
_THROTTLED = frozenset({"rate_limited"})


@dataclass(frozen=True)
class TurnLimits:
    """How much at once, and how often."""

    at_once: int
    """Downloads of all hosts together, those that last left out."""
    at_once_per_host: int
    per_second_per_host: float = 0.0
    """0: as often as it answers."""

    @property
    def in_all(self) -> int:
        """Downloads at once, those that last included."""
        return self.at_once * OLD_PER_YOUNG


class Turns:
    """Gives turns to downloads.

    Args:
        limits: What holds for all hosts.
    """

    def __init__(self, limits: TurnLimits) -> None:
        self._limits = limits
        self._interval = 1 / limits.per_second_per_host if limits.per_second_per_host else 0.0
        self._hosts: dict[str, Host] = {}
        self._ready: deque[Host] = deque()
        self._young = 0
        self._active = 0
        self._postponing = AsyncLimiter(POSTPONED_PER_SECOND, 1)

    @asynccontextmanager
    async def turn(self, name: str, *, postponed: int = 0) -> AsyncIterator[None]:
        """Wait for a turn with a host, and have it for the length of the block.

        Args:
            name: The host.
            postponed: How often this work was put off before.

        Raises:
            PostponedError: It would be long until then.
            FailedDownloadError: The host does not answer, or wants to be left alone again and
                again (``host_paused``).
        """
        host = self._host(name)
        await self._check(host, postponed)
        loop = asyncio.get_running_loop()
        await self._wait(host, loop)
        began = loop.time()
        is_young = True

        def grow_old() -> None:
            nonlocal is_young
            is_young = False
            self._young -= 1
            self._fill()

        timer = loop.call_later(YOUNG_SECONDS, grow_old)
        try:
            yield
        finally:
            timer.cancel()
            host.took(loop.time() - began)
            self._end(host, is_young=is_young)

    def answered(self, name: str) -> None:
        """Note that a host answered, whatever it said."""
        self._host(name).answered()

    def knows(self, name: str) -> bool:
        """Return whether a host answered before."""
        return self._host(name).is_known

    def set_crawl_delay(self, name: str, seconds: float) -> None:
        """Note how many seconds a host wants between two requests; the next one waits so long."""
        host = self._host(name)
        host.crawl_delay = seconds
        host.earliest = max(host.earliest, asyncio.get_running_loop().time() + seconds)

    def failed(self, name: str, error: FailedDownloadError) -> None:
        """Note that a host did not answer, or answered that it is asked too often."""
        host, now = self._host(name), asyncio.get_running_loop().time()
        retry_after = error.retry_after_seconds
        if error.code in _THROTTLED or retry_after is not None:
            host.asked_for_peace(now, retry_after)
        elif error.code in _SILENT:
            host.was_silent(now)
        else:
            host.answered()
        if host.paused_until - now > SHORT_SECONDS:
            self._turn_away(host)

    def _host(self, name: str) -> Host:
        if (host := self._hosts.get(name)) is None:
            if len(self._hosts) >= KNOWN_HOSTS:
                self._forget()
            host = self._hosts[name] = Host(name)
        return host

    async def _check(self, host: Host, postponed: int) -> None:
        """Raise where a host has no time for another one soon."""
        now = asyncio.get_running_loop().time()
        pause = host.paused_until - now
        if pause > SHORT_SECONDS:
            if host.is_silent or postponed >= MOST_POSTPONED:
                raise _paused(host)
            await self._postponing.acquire()
            raise PostponedError("the host wants to be left alone", for_long=pause > LONG_SECONDS)
        if len(host.waiting) < HELD_PER_HOST:
            return
        interval = max(self._interval, host.crawl_delay, host.mean_seconds / self._limit(host))
        if len(host.waiting) * interval > SHORT_SECONDS:
            await self._postponing.acquire()
            raise PostponedError("the host is slow", for_long=postponed > 1)

    async def _wait(self, host: Host, loop: asyncio.AbstractEventLoop) -> None:
        turn = loop.create_future()
        host.waiting.append(turn)
        self._list(host)
        self._fill()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._end(host, is_young=True)  # it was given in the same moment
            raise

    def _limit(self, host: Host) -> int:
        return 1 if host.is_silent or not host.is_known else self._limits.at_once_per_host

    def _list(self, host: Host) -> None:
        """Let a host take part, where it has something to do and may."""
        if host.is_listed or host.timer is not None or not host.waiting:
            return
        if host.active >= self._limit(host):
            return
        loop = asyncio.get_running_loop()
        due = max(host.earliest, host.paused_until)
        if due > loop.time():
            host.timer = loop.call_at(due, self._wake, host)
            return
        host.is_listed = True
        self._ready.append(host)

    def _wake(self, host: Host) -> None:
        host.timer = None
        self._list(host)
        self._fill()

    def _fill(self) -> None:
        """Give turns, one host after the other, while there is room."""
        limits, loop = self._limits, asyncio.get_running_loop()
        while self._ready and self._young < limits.at_once and self._active < limits.in_all:
            now = loop.time()  # of this round: with an older one than `_list` has it never ends
            host = self._ready.popleft()
            host.is_listed = False
            while host.waiting and host.waiting[0].done():
                del host.waiting[0]  # nobody waits for it any more
            is_due = now >= max(host.earliest, host.paused_until)
            if is_due and host.waiting and host.active < self._limit(host):
                host.waiting.popleft().set_result(None)
                host.active += 1
                host.earliest = now + max(self._interval, host.crawl_delay)
                self._active += 1
                self._young += 1
            self._list(host)

    def _end(self, host: Host, *, is_young: bool) -> None:
        host.active -= 1
        self._active -= 1
        self._young -= is_young
        self._list(host)
        self._fill()

    def _turn_away(self, host: Host) -> None:
        """Let those who wait for a host that is paused now look anew at how long that is."""
        for turn in host.waiting:
            if not turn.done():
                turn.set_exception(_paused(host) if host.is_silent else PostponedError("paused"))
        host.waiting.clear()

    def _forget(self) -> None:
        """Make room: for what is not remarkable first, and for all that is idle where need be."""
        now = asyncio.get_running_loop().time()
        idle = [host for host in self._hosts.values() if host.is_idle(now)]
        plain = [host for host in idle if not host.is_remarkable]
        for host in plain or idle:
            del self._hosts[host.name]


def _paused(host: Host) -> FailedDownloadError:
    reason = "does not answer and is left alone" if host.is_silent else "wants to be left alone"
    return FailedDownloadError("host_paused", f"{host.name} {reason}")
