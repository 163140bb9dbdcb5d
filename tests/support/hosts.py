"""A scheduler of hosts to test without MongoDB."""

from typing_extensions import override

from services.fetcher.politeness.host import HostRepository, HostState
from services.fetcher.politeness.scheduler import HostScheduler, SlotLimits


class MemoryRepository(HostRepository):
    """Keeps what is stored; the clock stands still.

    Attributes:
        stored: By name of the host.
        reads: Names that were looked up.
    """

    def __init__(self) -> None:
        self.stored: dict[str, HostState] = {}
        self.reads: list[str] = []

    @override
    async def find(self, name: str) -> HostState | None:
        self.reads.append(name)
        return self.stored.get(name)

    @override
    async def save(self, name: str, state: HostState) -> None:
        self.stored[name] = state


def make_scheduler(limits: SlotLimits, repository: MemoryRepository | None = None) -> HostScheduler:
    """Return a scheduler that knows no host yet."""
    return HostScheduler(limits, repository or MemoryRepository())
