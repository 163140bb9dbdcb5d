"""The ``hosts`` collection: pauses and Crawl-delays that outlive a process.

Only the fetcher that has a host's partition writes about it. An entry expires when the host may be
asked again, so the collection is as large as there are hosts to be left alone.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import structlog

from services.common.grouping import Grouped
from services.common.index import Collection, Document
from services.fetcher.hosts.host import HostState

log = structlog.stdlib.get_logger(__name__)

MOST_HOSTS = 100_000
"""Where so many are paused, others are paused in the memory of their fetcher only."""


class HostRepository:
    """Reads and writes what every fetcher has to know of a host.

    Args:
        collection: The ``hosts`` collection.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._find = Grouped(self._find_each)

    async def find(self, name: str) -> HostState | None:
        """Return what is stored of a host that may not be asked yet, or None."""
        return await self._find(name)

    async def _find_each(self, names: Sequence[str]) -> Sequence[HostState | None]:
        now = datetime.now(tz=UTC)
        where = {"_id": {"$in": list(set(names))}, "expires_at": {"$gt": now}}
        found = {each["_id"]: _to_state(each, now) async for each in self._collection.find(where)}
        return [found.get(name) for name in names]

    async def save(self, name: str, state: HostState) -> None:
        """Store a state until its pause is over and its next slot is due."""
        document = _to_document(state, datetime.now(tz=UTC))
        if await self._collection.update_one({"_id": name}, {"$set": document}):
            return
        if await self._collection.size() >= MOST_HOSTS:
            log.warning("pause of a host not stored: too many are", host=name)
            return
        await self._collection.update_one({"_id": name}, {"$set": document}, upsert=True)


def _to_document(state: HostState, now: datetime) -> Document:
    paused_until = now + timedelta(seconds=state.pause_seconds)
    next_slot_at = now + timedelta(seconds=state.next_slot_seconds)
    return {
        "paused_until": paused_until,
        "next_slot_at": next_slot_at,
        "crawl_delay": state.crawl_delay,
        "is_silent": state.is_silent,
        "pauses": state.pauses,
        "paused_since": now - timedelta(seconds=state.paused_for_seconds),
        "expires_at": max(paused_until, next_slot_at),
    }


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
