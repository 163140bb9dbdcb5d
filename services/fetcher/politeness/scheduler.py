"""Schedules downloads: gives slots to hosts in turn, each within its limits.

Work on one host is all in one process (``adapters/rabbitmq/partitions.py``), so its limits are kept
here, in memory; what must survive the process is in ``repository``. A download that lasts counts
against its host's limit, and after a second no more against that of all: slow and dead hosts would
else use up what the others could have.

A delivery that waits here is unacknowledged and takes a place of its partition's prefetch. So only
what is due within seconds waits here; the rest is delayed in RabbitMQ about as long as its slot
needs (docs/decisions/0013-hosts-partitioned-by-hash.md).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiolimiter import AsyncLimiter

from services.common.adapters.rabbitmq.settlement import DELAY_SECONDS
from services.common.domain.errors import PostponedError
from services.common.download.errors import FailedDownloadError
from services.fetcher.politeness.host import Host
from services.fetcher.politeness.repository import HostRepository
from services.fetcher.sources.addresses import is_submitted

YOUNG_SECONDS = 1.0
OLD_PER_YOUNG = 4
"""Downloads in all, for each that may be young: their memory and sockets have a limit too."""
HOLD_SECONDS = DELAY_SECONDS[0]
"""The shortest delay queue: what is due sooner is held here."""
MOST_HELD_SECONDS = 2 * HOLD_SECONDS
"""What took longer than was foreseen is delayed after all."""
LONGEST_DELAY_SECONDS = DELAY_SECONDS[-1]
DELAYED_PER_MINUTE = 12_000
"""Deliveries that may be delayed, at once or evenly: each costs RabbitMQ a copy."""
KNOWN_HOSTS = 10_000

_SILENT = frozenset({"timeout", "connection_failed", "dns_failure"})
_THROTTLED = frozenset({"rate_limited"})


@dataclass(frozen=True)
class SlotLimits:
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


class HostScheduler:
    """Gives slots to downloads.

    Args:
        limits: What holds for all hosts.
        repository: Pauses and Crawl-delays, as all fetchers see them.
    """

    def __init__(self, limits: SlotLimits, repository: HostRepository) -> None:
        self._limits = limits
        self._repository = repository
        self._interval = 1 / limits.per_second_per_host if limits.per_second_per_host else 0.0
        self._hosts: dict[str, Host] = {}
        self._generation = 0
        self._ready: deque[Host] = deque()
        self._young = 0
        self._active = 0
        self._delaying = AsyncLimiter(DELAYED_PER_MINUTE, 60)

    @asynccontextmanager
    async def slot(self, name: str, *, due_in: float = 0.0) -> AsyncIterator[None]:
        """Wait for a slot of a host, and have it for the length of the block.

        Args:
            name: The host.
            due_in: Seconds until the slot that this job was promised when it was delayed.

        Raises:
            PostponedError: The slot is not due within seconds.
            FailedDownloadError: The host does not answer, or throttles every request for long
                (``host_paused``).
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
        is_young = True

        def grow_old() -> None:
            nonlocal is_young
            is_young = False
            self._young -= 1
            self._fill()

        timer = loop.call_later(YOUNG_SECONDS, grow_old)
        try:
            if host.crawl_delay > HOLD_SECONDS:
                await self._save(host)
            yield
        finally:
            timer.cancel()
            host.took(loop.time() - began)
            self._end(host, is_young=is_young)

    async def delay_unless_due(self, name: str, *, due_in: float = 0.0) -> None:
        """Return where a job may wait here for its slot, or has none to wait for.

        Raises:
            PostponedError: The slot is not due within seconds.
        """
        host = self._host(name)
        await self._load(host)
        if error := self._delay(host, due_in):
            await self._delaying.acquire()
            raise error

    def reload(self) -> None:
        """Read anew what is stored of a host before it is asked: another process may have been."""
        self._generation += 1

    def answered(self, name: str) -> None:
        """Note that a host answered, whatever it said."""
        self._host(name).answered()

    def knows(self, name: str) -> bool:
        """Return whether a host answered before."""
        return self._host(name).is_known

    async def set_crawl_delay(self, name: str, seconds: float) -> None:
        """Note how many seconds a host wants between two requests; the next one waits so long."""
        host = self._host(name)
        host.crawl_delay = seconds
        host.earliest = max(host.earliest, asyncio.get_running_loop().time() + seconds)
        self._review(host)
        await self._save(host)

    async def failed(self, name: str, error: FailedDownloadError) -> None:
        """Note that a host did not answer, or answered that it is asked too often."""
        host, now = self._host(name), asyncio.get_running_loop().time()
        before, retry_after = host.paused_until, error.retry_after_seconds
        if error.code in _THROTTLED or retry_after is not None:
            host.throttled(now, retry_after)
        elif error.code in _SILENT:
            host.was_silent(now)
        else:
            host.answered()
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
        """Store what would hold deliveries back for long, for whoever has this host next."""
        now = asyncio.get_running_loop().time()
        if max(host.paused_until, host.earliest) - now > HOLD_SECONDS:
            await self._repository.save(host.name, host.state(now))
            host.is_stored = True

    def _delay(self, host: Host, due_in: float = 0.0) -> PostponedError | None:
        """Return why a job can't wait here, and reserve a slot for it; None where it can."""
        now = asyncio.get_running_loop().time()
        if _is_given_up(host, now):
            return None  # its jobs fail
        limit, free, seconds = self._limit(host), now, host.mean_seconds
        if host.active >= limit:
            seconds = max(seconds, now - host.granted)  # so long no download has ended
            free = now + seconds / limit
        interval = max(self._pause_of(host), seconds / limit)
        if due_in > HOLD_SECONDS:
            host.reserved_until = max(host.reserved_until, now + due_in + interval)
            return _slow(due_in)
        due = max(free, host.earliest, host.paused_until) + len(host.waiting) * interval
        if due - now <= HOLD_SECONDS:
            return None
        due = max(due, host.reserved_until)
        if due - now <= LONGEST_DELAY_SECONDS:  # else it asks again then: nothing is promised
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
                self._end(host, is_young=True)  # it was given in the same moment
            raise

    def _limit(self, host: Host) -> int:
        if host.is_own:
            return self._limits.at_once
        return 1 if host.is_silent or not host.is_known else self._limits.at_once_per_host

    def _pause_of(self, host: Host) -> float:
        """Return how many seconds lie between two requests."""
        return 0.0 if host.is_own else max(self._interval, host.crawl_delay)

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
        """Give slots, to one host after the other, while there is room."""
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
                host.granted = now
                host.earliest = now + self._pause_of(host)
                self._active += 1
                self._young += 1
            self._list(host)

    def _end(self, host: Host, *, is_young: bool) -> None:
        host.active -= 1
        self._active -= 1
        self._young -= is_young
        self._list(host)
        self._fill()

    def _review(self, host: Host) -> None:
        """Turn away those who wait for a host and are not due within seconds any more."""
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
        """Make room: for what is not remarkable first, and for all that is idle where need be."""
        now = asyncio.get_running_loop().time()
        idle = [host for host in self._hosts.values() if host.is_idle(now)]
        plain = [host for host in idle if not host.is_remarkable]
        for host in plain or idle:
            del self._hosts[host.name]


def _is_given_up(host: Host, now: float) -> bool:
    return host.paused_until - now > HOLD_SECONDS and host.is_given_up(now)


def _slow(seconds: float) -> PostponedError:
    return PostponedError("its host is slow, or paused", seconds=seconds, is_reserved=True)


def _paused(host: Host) -> FailedDownloadError:
    reason = "does not answer" if host.is_silent else "throttles every request"
    return FailedDownloadError("host_paused", f"{host.name} {reason} and is paused")
