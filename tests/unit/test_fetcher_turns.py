"""Whose turn it is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.common.download.errors import FailedDownloadError
from services.common.errors import PostponedError
from services.fetcher.hosts import turns as module
from services.fetcher.hosts.turns import HELD_PER_HOST, TurnLimits, Turns
from tests.support.waiting import eventually


class Crowd:
    """Those who want a turn."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.tasks: list[asyncio.Task[None]] = []
        self._go_on = asyncio.Semaphore(0)
        self.order: list[str] = []
        self.times: list[float] = []
        self.errors: list[Exception] = []

    def want(self, host: str, postponed: int = 0) -> None:
        self.tasks.append(asyncio.create_task(self._take(host, postponed)))

    async def served(self) -> None:
        async with asyncio.timeout(5):
            await asyncio.gather(*self.tasks)

    async def _take(self, host: str, postponed: int) -> None:
        try:
            async with self._turns.turn(host, postponed=postponed):
                self.order.append(host)
                self.times.append(asyncio.get_running_loop().time())
                await self._go_on.acquire()
        except (PostponedError, FailedDownloadError) as error:
            self.errors.append(error)

    async def finish(self, count: int) -> None:
        for _ in range(count):
            self._go_on.release()
        await settle()

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def crowd(turns: Turns, *known: str) -> AsyncIterator[Crowd]:
    for name in known:
        turns.answered(name)
    made = Crowd(turns)
    try:
        yield made
    finally:
        await made.end()


async def test_hosts_alternate_whatever_order_their_work_came_in() -> None:
    async with crowd(Turns(TurnLimits(1, 1)), "a", "b") as those:
        for host in ("a", "a", "a", "b", "b"):
            those.want(host)
        await settle()
        for _ in range(5):
            await those.finish(1)

    assert those.order == ["a", "b", "a", "b", "a"]


async def test_host_gets_no_more_than_its_share_and_others_the_rest() -> None:
    async with crowd(Turns(TurnLimits(5, 2)), "a", "b") as those:
        for host in ("a", "a", "a", "a", "b"):
            those.want(host)
        await settle()

    assert sorted(those.order) == ["a", "a", "b"]


async def test_host_that_never_answered_gets_one_request_at_first() -> None:
    turns = Turns(TurnLimits(5, 2))
    async with crowd(turns) as those:
        for _ in range(4):
            those.want("a")
        await settle()
        assert those.order == ["a"]
        turns.answered("a")
        await those.finish(1)
        assert those.order == ["a"] * 3


async def test_turns_are_spaced_by_the_rate_and_by_the_delay_that_the_host_wants() -> None:
    turns = Turns(TurnLimits(5, 5, 50))
    async with crowd(turns, "a", "b") as those:
        turns.set_crawl_delay("b", 0.06)
        await those.finish(9)
        for _ in range(4):
            those.want("a")
        await those.served()
        fast = those.times[:]
        for _ in range(3):
            those.want("b")
        await those.served()
        slow = those.times[4:]

    assert fast[-1] - fast[0] >= 0.058
    assert slow[-1] - slow[0] >= 0.118


async def test_downloads_that_last_leave_their_place_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "YOUNG_SECONDS", 0.02)
    async with crowd(Turns(TurnLimits(1, 1)), "a", "b", "c", "d", "e") as those:
        for host in "abcde":
            those.want(host)
        await settle()
        assert those.order == ["a"]

        async def four_have_turns() -> bool:
            return len(those.order) >= 4

        await eventually(four_have_turns, seconds=5)
        await asyncio.sleep(0.05)

        assert those.order == ["a", "b", "c", "d"]  # four times as many, and no more


async def test_work_beyond_what_is_held_for_a_slow_host_is_put_off() -> None:
    turns = Turns(TurnLimits(5, 1))
    turns.set_crawl_delay("slow", 60)
    async with crowd(turns, "slow", "other") as those:
        for _ in range(HELD_PER_HOST + 3):
            those.want("slow")
        those.want("slow", postponed=2)
        those.want("other")
        await settle()

    assert [isinstance(each, PostponedError) and each.for_long for each in those.errors] == [
        *[False] * 3,
        True,
    ]
    assert those.order == ["other"]


async def test_work_for_a_fast_host_is_held_however_much_it_is() -> None:
    async with crowd(Turns(TurnLimits(1, 1)), "fast") as those:
        for _ in range(HELD_PER_HOST * 3):
            those.want("fast")
        await settle()

    assert not those.errors


async def test_silent_host_is_left_alone_and_its_work_fails_at_once() -> None:
    turns = Turns(TurnLimits(5, 5))
    async with crowd(turns, "a") as those:
        for _ in range(6):
            those.want("a")
        await settle()
        for _ in range(5):
            turns.failed("a", FailedDownloadError("timeout", "silence"))
        those.want("a")
        await settle()

    codes = [getattr(each, "code", "") for each in those.errors]
    assert codes == ["host_paused"] * 2


async def test_answer_between_silences_keeps_a_host() -> None:
    turns = Turns(TurnLimits(5, 5))
    async with crowd(turns, "a") as those:
        for _ in range(9):
            turns.failed("a", FailedDownloadError("timeout", "silence"))
            turns.answered("a")
        those.want("a")
        await settle()

    assert those.order == ["a"]


async def test_work_for_a_host_that_wants_peace_is_put_off_and_fails_in_the_end() -> None:
    turns = Turns(TurnLimits(5, 5))
    peace = FailedDownloadError("rate_limited", "429", retry_after_seconds=120)
    async with crowd(turns, "a") as those:
        turns.failed("a", peace)
        those.want("a")
        those.want("a", postponed=module.MOST_POSTPONED)
        await settle()

    first, last = those.errors
    assert isinstance(first, PostponedError)
    assert first.for_long
    assert isinstance(last, FailedDownloadError)
    assert last.code == "host_paused"


async def test_host_is_left_alone_as_long_as_it_says_and_not_told_that_it_is_silent() -> None:
    turns = Turns(TurnLimits(5, 5))
    hour = FailedDownloadError("rate_limited", "429", retry_after_seconds=3600)
    async with crowd(turns, "a") as those:
        turns.failed("a", hour)
        with pytest.MonkeyPatch.context() as patch:
            loop = asyncio.get_running_loop()
            half_an_hour_on = loop.time() + 1800
            patch.setattr(loop, "time", lambda: half_an_hour_on)
            those.want("a", postponed=module.MOST_POSTPONED)
            await settle()

    assert [str(error) for error in those.errors] == ["a wants to be left alone"]


async def test_who_gives_up_waiting_leaves_the_turn_to_the_next() -> None:
    async with crowd(Turns(TurnLimits(1, 1)), "a") as those:
        those.want("a")
        those.want("a")
        those.want("a")
        await settle()
        those.tasks[1].cancel()
        await those.finish(2)
        assert those.order == ["a", "a"]
        those.want("a")
        await those.finish(1)

    assert those.order == ["a", "a", "a"]


async def test_process_that_stalls_in_the_middle_of_giving_turns_does_not_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between two looks at the clock more may pass than a host's interval."""
    loop = asyncio.get_running_loop()
    clock = loop.time
    looks = 0

    def stalling() -> float:
        nonlocal looks
        looks += 1
        assert looks < 10_000, "it never ends"
        return clock() + looks * 0.2

    turns = Turns(TurnLimits(at_once=64, at_once_per_host=8))
    turns.answered("a.test")
    turns.set_crawl_delay("a.test", 0.05)
    async with crowd(turns) as waiting:
        for _ in range(3):
            waiting.want("a.test")
        await settle()  # all of them wait for the host's delay
        monkeypatch.setattr(loop, "time", stalling)
        turns._wake(turns._host("a.test"))
        assert turns._host("a.test").active == 3
