"""Repository of the ``hosts`` collection: pauses and Crawl-delays that outlive a process.

It is written by the fetcher with the host's partition, and by others after redirects, so a stored
pause is never shortened. An entry expires at the end of the pause.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import structlog

from services.common.adapters.mongo import Collection, Document, DuplicateDocumentError
from services.common.adapters.request_batcher import RequestBatcher
from services.fetcher.politeness.host import HostState

log = structlog.stdlib.get_logger(__name__)


class DelayReason(StrEnum):
    """Reason of a pause."""

    THROTTLED = "throttled"
    """429, 503 or ``Retry-After``."""
    SILENT = "silent"
    """No response."""
    CRAWL_DELAY = "crawl_delay"
    """Its ``Crawl-delay`` is long."""


MOST_HOSTS = 100_000
"""Limit of stored pauses; further ones are kept in memory only."""


@dataclass(frozen=True)
class DelayedHost:
    """A paused host, for display."""

    host: str
    reason: DelayReason
    until: datetime
    crawl_delay: float


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

    async def delayed(self, *, limit: int) -> list[DelayedHost]:
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
            "is_silent": state.is_silent,
            "pauses": state.pauses,
            "paused_since": now - timedelta(seconds=state.paused_for_seconds),
        },
    }


def _to_delayed(document: Document, now: datetime) -> DelayedHost:
    reason = DelayReason.CRAWL_DELAY
    if document["paused_until"] > now:
        reason = DelayReason.SILENT if document["is_silent"] else DelayReason.THROTTLED
    until, crawl_delay = document["expires_at"], document["crawl_delay"]
    return DelayedHost(document["_id"], reason, until, crawl_delay)


def _to_state(document: Document, now: datetime) -> HostState:
    def until(name: str) -> float:
        seconds: float = (document[name] - now).total_seconds()
        return max(0.0, seconds)

    return HostState(
        pause_seconds=until("paused_until"),
        next_slot_seconds=until("next_slot_at"),
        crawl_delay=document["crawl_delay"],
        is_silent=document["is_silent"],
        pauses=document["pauses"],
        paused_for_seconds=(now - document["paused_since"]).total_seconds(),
    )
