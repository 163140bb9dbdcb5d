"""State of one host: responses, rate limit and pause; and its repository, the collection ``hosts``.

The collection holds pauses and Crawl-delays that outlive a process. It is written by the fetcher
with the host's partition, and by others after redirects, so a stored pause is never shortened. An
entry expires at the end of the pause.

See docs/decisions/0028-slow-hosts-are-delayed.md.
"""

import random
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from services.common.adapters.mongo import Collection, Document
from services.common.adapters.request_batcher import RequestBatcher
from services.common.domain.errors import DuplicateDocumentError
from services.common.domain.fetcher_answers import DelayReason, HostStatus
from services.common.runtime.periodic import doubled

if TYPE_CHECKING:
    import asyncio

UNRESPONSIVE_AFTER = 5
"""Consecutive downloads without response after which a host counts as unresponsive."""
UNRESPONSIVE_AFTER_AT_FIRST = 3
"""The same for a host that has never answered."""
FIRST_UNRESPONSIVE_SECONDS = 30.0
FIRST_THROTTLE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 600.0
"""Limit of pauses without ``Retry-After``."""
GIVE_UP_SECONDS = 1800.0
LEAST_THROTTLES = 3
"""A host that throttles all requests, this many, for ``GIVE_UP_SECONDS`` is given up."""
_EMA_WEIGHT = 0.2
"""Weight of the last download in the moving average of durations."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True)
class HostState:
    """State of a host shared by processes; times are in seconds from now."""

    pause_seconds: float = 0.0
    """End of its pause."""
    next_slot_seconds: float = 0.0
    """Time of the next request by its rate limit."""
    crawl_delay: float = 0.0
    is_unresponsive: bool = False
    pauses: int = 0
    """Consecutive failures without response."""
    paused_for_seconds: float = 0.0
    """Since the first of them began."""


@dataclass(eq=False)
class Host:
    """One host in one process; times are those of the event loop, in seconds.

    Attributes:
        name: As in URLs: name or address, and a non-default port.
        is_own: It is a submitted file, not a host: no limits.
        waiting: Requested slots, first in first out.
        active: Slots in use.
        granted: Time of the last slot.
        earliest: Time of the next slot.
        reserved_until: Delayed jobs have reserved slots until then.
        crawl_delay: Its ``Crawl-delay`` in seconds.
        mean_seconds: Moving average of the duration of a download.
        paused_until: End of its pause.
        is_unresponsive: It does not answer: after its pause, one download at a time.
        is_known: It has answered before; until then, one download at a time.
        generation: Of the scheduler, when the stored state was read.
        is_stored: Its pause or Crawl-delay is stored, so that it may be evicted here.
    """

    name: str
    is_own: bool = False
    waiting: "deque[asyncio.Future[None]]" = field(default_factory=deque)
    active: int = 0
    granted: float = 0.0
    earliest: float = 0.0
    reserved_until: float = 0.0
    crawl_delay: float = 0.0
    mean_seconds: float = 0.0
    paused_until: float = 0.0
    is_unresponsive: bool = False
    is_known: bool = False
    is_listed: bool = False
    generation: int = -1
    is_stored: bool = False
    timer: "asyncio.TimerHandle | None" = None
    _unanswered: int = 0
    _pauses: int = 0
    _paused_since: float = 0.0

    def record_response(self) -> None:
        """Record any response."""
        self._unanswered = self._pauses = 0
        self.is_unresponsive = False
        self.is_known = True

    def record_no_response(self, now: float) -> None:
        """Record a missing response; several in a row pause the host."""
        self._unanswered += 1
        most = UNRESPONSIVE_AFTER if self.is_known else UNRESPONSIVE_AFTER_AT_FIRST
        if self._unanswered >= most and now >= self.paused_until:
            self.is_unresponsive = True
            self._pause(now, _growing(FIRST_UNRESPONSIVE_SECONDS, self._pauses))

    def throttled(self, now: float, retry_after: float | None) -> None:
        """Record a throttling response.

        Args:
            now: Time.
            retry_after: Its ``Retry-After`` in seconds, if any. Repeated throttling leads to longer
                pauses anyway.
        """
        self._unanswered = 0
        self.is_unresponsive = False
        self.is_known = True
        if now >= self.paused_until:
            self._pause(now, max(retry_after or 0, _growing(FIRST_THROTTLE_SECONDS, self._pauses)))
        else:  # a response to a request sent before the pause
            self.paused_until = max(self.paused_until, now + (retry_after or 0))

    def record_duration(self, seconds: float) -> None:
        """Record the duration of a download."""
        self.mean_seconds += _EMA_WEIGHT * (seconds - self.mean_seconds)

    def is_idle(self, now: float) -> bool:
        """Whether it can be evicted without loss."""
        if self.waiting or self.active or self.timer:
            return False
        return self.is_stored or now >= max(self.earliest, self.paused_until)

    def is_given_up(self, now: float) -> bool:
        """Whether jobs fail while it is paused, instead of being delayed."""
        is_hopeless = (
            self._pauses >= LEAST_THROTTLES and now - self._paused_since >= GIVE_UP_SECONDS
        )
        return self.is_unresponsive or is_hopeless

    @property
    def has_recent_failures(self) -> bool:
        """Whether it has recent failures."""
        return self._unanswered > 0 or self._pauses > 0

    def state(self, now: float) -> HostState:
        """Return the state to share with other processes."""
        return HostState(
            pause_seconds=max(0.0, self.paused_until - now),
            next_slot_seconds=max(0.0, self.earliest - now),
            crawl_delay=self.crawl_delay,
            is_unresponsive=self.is_unresponsive,
            pauses=self._pauses,
            paused_for_seconds=now - self._paused_since if self._pauses else 0.0,
        )

    def restore(self, state: HostState, now: float) -> None:
        """Restore the state shared by another or earlier process."""
        self.earliest = max(self.earliest, now + state.next_slot_seconds)
        self.crawl_delay = max(self.crawl_delay, state.crawl_delay)
        if now + state.pause_seconds > max(now, self.paused_until):
            self.paused_until = now + state.pause_seconds
            self.is_unresponsive = state.is_unresponsive
            self._pauses = state.pauses
            self._paused_since = now - state.paused_for_seconds

    def _pause(self, now: float, seconds: float) -> None:
        if not self._pauses:
            self._paused_since = now
        self._pauses += 1
        self.paused_until = max(self.paused_until, now + seconds)


def _growing(first: float, times: int) -> float:
    """Return an exponential backoff with jitter, in seconds."""
    wait = doubled(first, times, longest=LONGEST_PAUSE_SECONDS)
    return wait * random.uniform(0.75, 1.25)  # noqa: S311


MOST_HOSTS = 100_000
"""Limit of stored pauses; further ones are kept in memory only."""


class HostRepository:
    """Reads and writes the shared state of hosts."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._find = RequestBatcher(self._find_each)

    async def find(self, name: str) -> HostState | None:
        """Return the stored state of a paused host, or None."""
        return await self._find(name)

    async def _find_each(self, names: Sequence[str]) -> Sequence[HostState | None]:
        now = datetime.now(tz=UTC)
        where = {"_id": {"$in": list(set(names))}, "expires_at": {"$gt": now}}
        found = {each["_id"]: _to_state(each, now) async for each in self._collection.find(where)}
        return [found.get(name) for name in names]

    async def delayed(self, *, limit: int) -> list[HostStatus]:
        """Return paused hosts, the longest pause first."""
        now = datetime.now(tz=UTC)
        found = self._collection.find(
            {"expires_at": {"$gt": now}}, sort=[("expires_at", -1)], limit=limit
        )
        return [_to_delayed(each, now) async for each in found]

    async def save(self, name: str, state: HostState) -> None:
        """Store a state until the end of its pause and its next slot."""
        change = _to_change(state, datetime.now(tz=UTC))
        if await self._collection.update_one({"_id": name}, change):
            return
        if await self._collection.size() >= MOST_HOSTS:
            log.warning("too many paused hosts, pause not stored", host=name)
            return
        with suppress(DuplicateDocumentError):  # a concurrent write with the same state
            await self._collection.update_one({"_id": name}, change, upsert=True)


def _to_change(state: HostState, now: datetime) -> Document:
    paused_until = now + timedelta(seconds=state.pause_seconds)
    next_slot_at = now + timedelta(seconds=state.next_slot_seconds)
    return {
        "$max": {
            "paused_until": paused_until,
            "next_slot_at": next_slot_at,
            "expires_at": max(paused_until, next_slot_at),
        },
        "$set": {
            "crawl_delay": state.crawl_delay,
            "is_silent": state.is_unresponsive,
            "pauses": state.pauses,
            "paused_since": now - timedelta(seconds=state.paused_for_seconds),
        },
    }


def _to_delayed(document: Document, now: datetime) -> HostStatus:
    reason = DelayReason.CRAWL_DELAY
    if document["paused_until"] > now:
        reason = DelayReason.UNRESPONSIVE if document["is_silent"] else DelayReason.THROTTLED
    return HostStatus(
        host=document["_id"],
        reason=reason,
        until=document["expires_at"],
        crawl_delay=document["crawl_delay"],
    )


def _to_state(document: Document, now: datetime) -> HostState:
    def until(name: str) -> float:
        seconds: float = (document[name] - now).total_seconds()
        return max(0.0, seconds)

    return HostState(
        pause_seconds=until("paused_until"),
        next_slot_seconds=until("next_slot_at"),
        crawl_delay=document["crawl_delay"],
        is_unresponsive=document["is_silent"],
        pauses=document["pauses"],
        paused_for_seconds=(now - document["paused_since"]).total_seconds(),
    )
