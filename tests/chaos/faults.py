"""Faults of the programs of a running pipeline, in a seeded random order."""

import asyncio
import random
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from aiohttp import ClientError, ClientSession

from tests.support.pipeline import Pipeline
from tests.support.waiting import eventually

PROGRAMS = ("consumer", "fetcher", "ocr-api", "rabbitmq", "minio", "mongo")
FREEZE_SECONDS = 10.0
READY_WITHIN_SECONDS = 90.0

T = TypeVar("T")


class Kind(StrEnum):
    """Kind of a fault."""

    KILL = "kill -9"
    FREEZE = "SIGSTOP for 10 s"
    RESTART = "restart"


@dataclass(frozen=True)
class Fault:
    """One failure."""

    program: str
    kind: Kind
    pause_seconds: float
    """Undisturbed time before it."""

    @property
    def title(self) -> str:
        """Displayed name."""
        return f"{self.kind} of {self.program}"


def schedule(seed: int, count: int) -> Iterator[Fault]:
    """Yield faults: every program in turn, in random order, with every kind in turn."""
    dice = random.Random(seed)  # noqa: S311  chosen to be repeatable
    kinds: list[Kind] = []
    programs: list[str] = []
    for _ in range(count):
        kinds = kinds or dice.sample(list(Kind), len(Kind))
        programs = programs or dice.sample(PROGRAMS, len(PROGRAMS))
        yield Fault(programs.pop(), kinds.pop(), dice.uniform(0.5, 3.0))


def merge(dice: random.Random, *groups: Sequence[T]) -> list[T]:
    """Return all members of groups in one order, in which each group is spread evenly."""
    placed = [
        ((place + dice.random()) / len(group), member)
        for group in groups
        for place, member in enumerate(group)
    ]
    return [member for _, member in sorted(placed, key=lambda each: each[0])]


async def inflict(fault: Fault, pipeline: Pipeline) -> None:
    """Let a program fail, and wait until it is back."""
    if fault.kind is Kind.FREEZE:
        pipeline.signal(fault.program, signal.SIGSTOP)
        try:
            await asyncio.sleep(FREEZE_SECONDS)
        finally:
            pipeline.signal(fault.program, signal.SIGCONT)
        return
    before = len(pipeline.events)
    number = signal.SIGKILL if fault.kind is Kind.KILL else signal.SIGTERM
    pipeline.signal(fault.program, number)

    async def is_back() -> bool:
        return f"{fault.program} is ready again" in pipeline.events[before:]

    await eventually(is_back, seconds=READY_WITHIN_SECONDS)


async def wait_ready(pipeline: Pipeline) -> None:
    """Wait until every service of ours says that it is ready."""
    for url in pipeline.service_urls:

        async def is_ready(url: str = url) -> bool:
            try:
                async with ClientSession() as session, session.get(f"{url}/readyz") as response:
                    return response.status == 200
            except ClientError:
                return False

        await eventually(is_ready, seconds=READY_WITHIN_SECONDS)
