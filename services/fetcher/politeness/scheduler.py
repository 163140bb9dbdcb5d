"""Download scheduler: grants slots to hosts round-robin, within limits per host.

All jobs of a host are in one process (``adapters/rabbitmq/partitions.py``), so its limits are in
memory; state that must survive it is in MongoDB (``host``). A download counts against its
host's limit until it ends, but against the global limit only for a second, so that slow hosts do
not exhaust it.

A delivery that waits here is unacknowledged and occupies its partition's prefetch. So only jobs due
within seconds wait here; others are delayed in RabbitMQ until about their slot
(docs/decisions/0013-hosts-partitioned-by-hash.md).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

from aiolimiter import AsyncLimiter

from services.common.adapters.rabbitmq.retry_policy import DELAY_SECONDS
from services.common.domain.errors import PostponedError
from services.common.download.errors import FailedDownloadError
from services.fetcher.politeness.host import Host, HostRepository
from services.fetcher.sources.addresses import is_submitted

LONG_RUNNING_AFTER_SECONDS = 1.0
LONG_RUNNING_FACTOR = 4
"""Limit of all downloads, as a multiple of the limit of young ones, for memory and sockets."""
HOLD_SECONDS = DELAY_SECONDS[0]
"""Delay of the shortest delay queue; jobs due sooner wait here."""
MOST_HELD_SECONDS = 2 * HOLD_SECONDS
"""Waiting jobs not due within this time are delayed after all."""
LONGEST_DELAY_SECONDS = DELAY_SECONDS[-1]
DELAYED_PER_MINUTE = 12_000
"""Token bucket of delayed deliveries: each costs RabbitMQ a copy."""
KNOWN_HOSTS = 10_000

_THROTTLING = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
"""Also of robots.txt; S3 answers 503 "Slow Down" without ``Retry-After``."""
_NO_RESPONSE = frozenset({"timeout", "connection_failed", "dns_failure"})


@dataclass(frozen=True)
class SlotLimits:
    """Limits of downloads."""

    at_once: int
    """Concurrent downloads of all hosts, without long-running ones."""
    at_once_per_host: int
    per_second_per_host: float = 0.0
    """0: no limit."""

    @property
    def in_all(self) -> int:
        """Concurrent downloads, including long-running ones."""
        return self.at_once * LONG_RUNNING_FACTOR


class HostScheduler:
    """Grants slots to downloads."""

    def __init__(self, limits: SlotLimits, repository: HostRepository) -> None:
        self._limits = limits
        self._repository = repository
        self._interval = 1 / limits.per_second_per_host if limits.per_second_per_host else 0.0
        self._hosts: dict[str, Host] = {}
        self._generation = 0
        self._ready: deque[Host] = deque()
        self._counted = 0
        self._active = 0
        self._delaying = AsyncLimiter(DELAYED_PER_MINUTE, 60)

    @asynccontextmanager
    async def slot(self, name: str, *, due_in: float = 0.0) -> AsyncIterator[None]:
        """Wait for a slot of a host, and hold it during the block.

        Args:
            name: The host.
            due_in: Seconds until the slot reserved for this job when it was delayed.

        Raises:
            PostponedError: The slot is not due within seconds.
            FailedDownloadError: The host is unresponsive or keeps throttling (``host_paused``).
        """
        await self.delay_unless_due(name, due_in=due_in)
        host, loop = self._host(name), asyncio.get_running_loop()
        if _is_given_up(host, loop.time()):
            raise _paused(host)
        try:
            async with asyncio.timeout(MOST_HELD_SECONDS):
                await self._wait(host, loop)
        except TimeoutError:
            raise self._delay(host) or _slow(HOLD_SECONDS) from None
        began = loop.time()
        counts_toward_limit = True

        def release_global_slot() -> None:
            nonlocal counts_toward_limit
            counts_toward_limit = False
            self._counted -= 1
            self._fill()

        timer = loop.call_later(LONG_RUNNING_AFTER_SECONDS, release_global_slot)
        try:
            if host.crawl_delay > HOLD_SECONDS:
                await self._save(host)
            yield
        finally:
            timer.cancel()
            host.record_duration(loop.time() - began)
            self._end(host, counts_toward_limit=counts_toward_limit)

    async def delay_unless_due(self, name: str, *, due_in: float = 0.0) -> None:
        """Return if a job may wait here for its slot, or needs none.

        Raises:
            PostponedError: The slot is not due within seconds.
        """
        host = self._host(name)
        await self._load(host)
        if error := self._delay(host, due_in):
            await self._delaying.acquire()
            raise error

    def reload(self) -> None:
        """Reload the stored state of a host, which another process may have changed."""
        self._generation += 1

    def record_response(self, name: str) -> None:
        """Record any response of a host."""
        self._host(name).record_response()

    def has_responded(self, name: str) -> bool:
        """Return whether a host has answered before."""
        return self._host(name).is_known

    async def set_crawl_delay(self, name: str, seconds: float) -> None:
        """Set the ``Crawl-delay`` of a host."""
        host, now = self._host(name), asyncio.get_running_loop().time()
        host.crawl_delay, host.earliest = seconds, max(host.earliest, now + seconds)
        self._review(host)
        await self._save(host)

    async def record_failure(self, name: str, error: FailedDownloadError) -> None:
        """Record a missing or throttling response of a host, the latter once."""
        if error.is_repeated and error.code not in _NO_RESPONSE:
            return
        host, now = self._host(name), asyncio.get_running_loop().time()
        before, retry_after = host.paused_until, error.retry_after_seconds
        is_throttling = error.code == "rate_limited" or error.http_status in _THROTTLING
        if is_throttling or retry_after is not None:
            host.throttled(now, retry_after)
        elif error.code in _NO_RESPONSE:
            host.record_no_response(now)
        else:
            host.record_response()
        if host.paused_until > before:
            self._review(host)
            await self._save(host)

    def _host(self, name: str) -> Host:
        if (host := self._hosts.get(name)) is None:
            if len(self._hosts) >= KNOWN_HOSTS:
                self._forget()
            host = self._hosts[name] = Host(name, is_own=is_submitted(name))
        return host

    async def _load(self, host: Host) -> None:
        generation = self._generation
        if host.generation == generation:
            return
        state = await self._repository.find(host.name)
        if state is not None:
            host.restore(state, asyncio.get_running_loop().time())
        host.is_stored = state is not None
        host.generation = generation

    async def _save(self, host: Host) -> None:
        """Store a long pause for the host's next process."""
        now = asyncio.get_running_loop().time()
        if max(host.paused_until, host.earliest) - now > HOLD_SECONDS:
            await self._repository.save(host.name, host.state(now))
            host.is_stored = True

    def _delay(self, host: Host, due_in: float = 0.0) -> PostponedError | None:
        """Reserve a slot and return the error of a job that can't wait here; None if it can."""
        now = asyncio.get_running_loop().time()
        if _is_given_up(host, now):
            return None  # its jobs fail
        limit, free, seconds = self._limit(host), now, host.mean_seconds
        if host.active >= limit:
            seconds = max(seconds, now - host.granted)  # no download has ended yet
            free = now + seconds / limit
        interval = max(self._pause_of(host), seconds / limit)
        if due_in > HOLD_SECONDS:
            host.reserved_until = max(host.reserved_until, now + due_in + interval)
            return _slow(due_in)
        due = max(free, host.earliest, host.paused_until) + len(host.waiting) * interval
        if due - now <= HOLD_SECONDS:
            return None
        due = max(due, host.reserved_until)
        # otherwise it is rescheduled then, without reservation
        if due - now <= LONGEST_DELAY_SECONDS:
            host.reserved_until = due + interval
        return _slow(min(due - now, LONGEST_DELAY_SECONDS))

    async def _wait(self, host: Host, loop: asyncio.AbstractEventLoop) -> None:
        slot = loop.create_future()
        host.waiting.append(slot)
        self._list(host)
        self._fill()
        try:
            await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled() and slot.exception() is None:
                self._end(host, counts_toward_limit=True)  # it was granted at the same moment
            raise

    def _limit(self, host: Host) -> int:
        if host.is_own:
            return self._limits.at_once
        return 1 if host.is_unresponsive or not host.is_known else self._limits.at_once_per_host

    def _pause_of(self, host: Host) -> float:
        """Return the seconds between two requests."""
        return 0.0 if host.is_own else max(self._interval, host.crawl_delay)

    def _list(self, host: Host) -> None:
        """Add a host to the round if it has waiting jobs and free slots."""
        is_planned = host.is_listed or host.timer is not None
        if is_planned or not host.waiting or host.active >= self._limit(host):
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
        """Grant slots to hosts round-robin, up to the limits."""
        limits, loop = self._limits, asyncio.get_running_loop()
        while self._ready and self._counted < limits.at_once and self._active < limits.in_all:
            # one time for the round: an older one than in `_list` would loop forever
            now = loop.time()
            host = self._ready.popleft()
            host.is_listed = False
            while host.waiting and host.waiting[0].done():
                del host.waiting[0]  # cancelled
            is_due = now >= max(host.earliest, host.paused_until)
            if is_due and host.waiting and host.active < self._limit(host):
                host.waiting.popleft().set_result(None)
                host.active += 1
                host.granted = now
                host.earliest = now + self._pause_of(host)
                self._active += 1
                self._counted += 1
            self._list(host)

    def _end(self, host: Host, *, counts_toward_limit: bool) -> None:
        host.active -= 1
        self._active -= 1
        self._counted -= counts_toward_limit
        self._list(host)
        self._fill()

    def _review(self, host: Host) -> None:
        """Postpone jobs of a host that are no longer due within seconds."""
        waiting, host.waiting = host.waiting, deque()
        is_given_up = _is_given_up(host, asyncio.get_running_loop().time())
        for slot in waiting:
            if slot.done():
                continue
            if error := _paused(host) if is_given_up else self._delay(host):
                slot.set_exception(error)
            else:
                host.waiting.append(slot)

    def _forget(self) -> None:
        """Evict idle hosts, first those without failures."""
        now = asyncio.get_running_loop().time()
        idle = [host for host in self._hosts.values() if host.is_idle(now)]
        plain = [host for host in idle if not host.has_recent_failures]
        for host in plain or idle:
            del self._hosts[host.name]


def _is_given_up(host: Host, now: float) -> bool:
    return host.paused_until - now > HOLD_SECONDS and host.is_given_up(now)


def _slow(seconds: float) -> PostponedError:
    return PostponedError("its host is slow, or paused", seconds=seconds, is_reserved=True)


def _paused(host: Host) -> FailedDownloadError:
    reason = "does not answer" if host.is_unresponsive else "throttles every request"
    return FailedDownloadError("host_paused", f"{host.name} {reason} and is paused")
