"""The next slot's host, and delays."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from services.common.domain.errors import PostponedError
from services.common.download.errors import FailedDownloadError
from services.fetcher.politeness.scheduler import (
    LONG_RUNNING_AFTER_SECONDS,
    MOST_HELD_SECONDS,
    HostScheduler,
    SlotLimits,
)
from tests.support.hosts import MemoryRepository, make_scheduler
from tests.support.virtual_time import in_virtual_time
from tests.support.waiting import deadline


class Crowd:
    """Those who want a slot."""

    def __init__(self, scheduler: HostScheduler) -> None:
        self._scheduler = scheduler
        self.tasks: list[asyncio.Task[None]] = []
        self._go_on = asyncio.Semaphore(0)
        self.order: list[str] = []
        self.times: list[float] = []
        self.errors: list[Exception] = []

    def want(self, host: str, due_in: float = 0.0) -> None:
        self.tasks.append(asyncio.create_task(self._take(host, due_in)))

    async def served(self) -> None:
        async with deadline():
            await asyncio.gather(*self.tasks)

    async def _take(self, host: str, due_in: float) -> None:
        try:
            async with self._scheduler.slot(host, due_in=due_in):
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


def delays_of(errors: Sequence[Exception]) -> list[int]:
    """Return for how many seconds jobs are delayed."""
    return [round(each.seconds) for each in errors if isinstance(each, PostponedError)]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def crowd(scheduler: HostScheduler, *known: str) -> AsyncIterator[Crowd]:
    for name in known:
        scheduler.record_response(name)
    made = Crowd(scheduler)
    try:
        yield made
    finally:
        await made.end()


async def test_hosts_alternate_whatever_order_their_work_came_in() -> None:
    async with crowd(make_scheduler(SlotLimits(1, 1)), "a", "b") as those:
        for host in ("a", "a", "a", "b", "b"):
            those.want(host)
        await settle()
        for _ in range(5):
            await those.finish(1)

    assert those.order == ["a", "b", "a", "b", "a"]


async def test_host_gets_no_more_than_its_share_and_others_the_rest() -> None:
    async with crowd(make_scheduler(SlotLimits(5, 2)), "a", "b") as those:
        for host in ("a", "a", "a", "a", "b"):
            those.want(host)
        await settle()

    assert sorted(those.order) == ["a", "a", "b"]


async def test_host_that_never_answered_gets_one_request_at_first() -> None:
    scheduler = make_scheduler(SlotLimits(5, 2))
    async with crowd(scheduler) as those:
        for _ in range(4):
            those.want("a")
        await settle()
        assert those.order == ["a"]
        scheduler.record_response("a")
        await those.finish(1)
        assert those.order == ["a"] * 3


@in_virtual_time
async def test_slots_are_spaced_by_the_rate_and_by_the_crawl_delay() -> None:
    scheduler = make_scheduler(SlotLimits(5, 5, 50))
    async with crowd(scheduler, "a", "b") as those:
        await scheduler.set_crawl_delay("b", 0.06)
        await those.finish(9)
        for _ in range(4):
            those.want("a")
        await those.served()
        fast = those.times[:]
        for _ in range(3):
            those.want("b")
        await those.served()
        slow = those.times[4:]

    assert fast[-1] - fast[0] == pytest.approx(0.06)
    assert slow[-1] - slow[0] == pytest.approx(0.12)


@in_virtual_time
async def test_downloads_that_last_leave_their_place_to_others() -> None:
    async with crowd(make_scheduler(SlotLimits(1, 1)), "a", "b", "c", "d", "e") as those:
        for host in "abcde":
            those.want(host)
        await settle()
        assert those.order == ["a"]
        await asyncio.sleep(8 * LONG_RUNNING_AFTER_SECONDS)
        assert those.order == ["a", "b", "c", "d"]  # four times as many, and no more


@in_virtual_time
async def test_only_what_is_due_within_seconds_is_held() -> None:
    scheduler = make_scheduler(SlotLimits(5, 1))
    async with crowd(scheduler, "slow", "slower", "other") as those:
        await scheduler.set_crawl_delay("slow", 2)
        await scheduler.set_crawl_delay("slower", 300)
        for host in (*["slow"] * 5, *["slower"] * 4, "other"):
            those.want(host)
        await settle()

    assert those.order == ["other"]
    # two of the first are held; each of the others has a slot of its own, as far as delays reach
    assert delays_of(those.errors) == [6, 8, 10, 300, 600, 600, 600]


@in_virtual_time
async def test_job_that_comes_back_before_its_slot_keeps_it() -> None:
    scheduler = make_scheduler(SlotLimits(5, 1))
    async with crowd(scheduler, "slow") as those:
        await scheduler.set_crawl_delay("slow", 60)
        those.want("slow")
        await settle()
        those.want("slow", due_in=120)
        await settle()
        those.want("slow")
        await settle()

    assert delays_of(those.errors) == [60, 120, 180]


@in_virtual_time
async def test_waiting_jobs_are_delayed_by_a_new_crawl_delay() -> None:
    scheduler = make_scheduler(SlotLimits(5, 5))
    async with crowd(scheduler) as those:
        for _ in range(4):
            those.want("a")
        await settle()
        await scheduler.set_crawl_delay("a", 300)
        await settle()

    assert those.order == ["a"]
    assert delays_of(those.errors) == [300, 600, 600]


@in_virtual_time
async def test_jobs_of_a_host_that_answers_slowly_are_delayed() -> None:
    scheduler = make_scheduler(SlotLimits(5, 5))
    async with crowd(scheduler) as those:
        for _ in range(4):
            those.want("a")
        await asyncio.sleep(MOST_HELD_SECONDS + 1)
        assert len(those.errors) == 3
        assert those.order == ["a"]
        those.want("a")  # nothing has come back for longer than that
        await settle()

    assert len(those.errors) == 4
    assert all(isinstance(each, PostponedError) for each in those.errors)


@in_virtual_time
async def test_work_for_a_fast_host_is_held_however_much_it_is() -> None:
    async with crowd(make_scheduler(SlotLimits(1, 1)), "fast") as those:
        for _ in range(200):
            those.want("fast")
        await settle()

    assert not those.errors  # what the machine takes is no time of the host


async def test_silent_host_is_left_alone_and_its_work_fails_at_once() -> None:
    scheduler = make_scheduler(SlotLimits(5, 5))
    async with crowd(scheduler, "a") as those:
        for _ in range(6):
            those.want("a")
        await settle()
        for _ in range(5):
            await scheduler.record_failure("a", FailedDownloadError("timeout", "silence"))
        those.want("a")
        await settle()

    codes = [getattr(each, "code", "") for each in those.errors]
    assert codes == ["host_paused"] * 2


async def test_answer_between_silences_keeps_a_host() -> None:
    scheduler = make_scheduler(SlotLimits(5, 5))
    async with crowd(scheduler, "a") as those:
        for _ in range(9):
            await scheduler.record_failure("a", FailedDownloadError("timeout", "silence"))
            scheduler.record_response("a")
        those.want("a")
        await settle()

    assert those.order == ["a"]


@in_virtual_time
async def test_throttled_host_delays_its_jobs_until_it_is_given_up() -> None:
    scheduler = make_scheduler(SlotLimits(5, 5))
    hour = FailedDownloadError("rate_limited", "429", retry_after_seconds=3600)
    async with crowd(scheduler, "a") as those:
        for _ in range(3):
            await scheduler.record_failure("a", hour)
            await scheduler.record_failure("a", hour)  # of a request that was under way
            those.want("a")
            await asyncio.sleep(3600)

    *early, late = those.errors
    assert delays_of(early) == [600, 600]
    assert str(late) == "a throttles every request and is paused"


@pytest.mark.parametrize(("status", "order"), [(500, ["a"]), (503, []), (429, [])])
@in_virtual_time
async def test_host_is_left_alone_when_it_says_that_it_is_overloaded(
    status: int, order: list[str]
) -> None:
    scheduler = make_scheduler(SlotLimits(5, 5))
    error = FailedDownloadError("robots_unavailable", "no Retry-After", http_status=status)
    async with crowd(scheduler) as those:
        await scheduler.record_failure("a", error)
        those.want("a")
        await settle()
        assert those.order == order


@in_virtual_time
async def test_failure_that_was_kept_pauses_its_host_once() -> None:
    scheduler = make_scheduler(SlotLimits(5, 5))
    error = FailedDownloadError("robots_unavailable", "no Retry-After", http_status=503)
    async with crowd(scheduler) as those:
        for _ in range(12):
            await scheduler.record_failure("a", error)
            await asyncio.sleep(600)
            error.is_repeated = True
        await scheduler.record_failure("a", error)
        those.want("a")
        await settle()

    assert (those.order, those.errors) == (["a"], [])


@in_virtual_time
async def test_pause_is_kept_by_a_scheduler_that_takes_over() -> None:
    repository = MemoryRepository()
    earlier = make_scheduler(SlotLimits(5, 5), repository)
    later = make_scheduler(SlotLimits(5, 5), repository)
    async with crowd(later, "a", "slow") as those:
        those.want("a")
        those.want("slow")
        await settle()
        await earlier.record_failure(
            "a", FailedDownloadError("rate_limited", "", retry_after_seconds=500)
        )
        await earlier.set_crawl_delay("slow", 60)
        later.reload()
        those.want("a")
        those.want("slow")
        await settle()

    assert those.order == ["a", "slow"]
    assert delays_of(those.errors) == [500, 60]


async def test_silence_is_kept_by_a_scheduler_that_takes_over() -> None:
    repository = MemoryRepository()
    earlier = make_scheduler(SlotLimits(5, 5), repository)
    for _ in range(3):
        await earlier.record_failure("a", FailedDownloadError("timeout", "silence"))
    async with crowd(make_scheduler(SlotLimits(5, 5), repository)) as those:
        those.want("a")
        await settle()

    assert [str(error) for error in those.errors] == ["a does not answer and is paused"]


async def test_state_is_read_once_and_short_pauses_are_not_stored() -> None:
    repository = MemoryRepository()
    scheduler = make_scheduler(SlotLimits(5, 5), repository)
    async with crowd(scheduler) as those:
        for _ in range(3):
            those.want("a")
            await settle()
        await scheduler.record_failure(
            "a", FailedDownloadError("rate_limited", "", retry_after_seconds=4)
        )

    assert repository.reads == ["a"]
    assert repository.stored == {}


async def test_who_gives_up_waiting_leaves_the_slot_to_the_next() -> None:
    async with crowd(make_scheduler(SlotLimits(1, 1)), "a") as those:
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


async def test_stall_while_slots_are_given_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two looks at the clock more may pass than a host's interval."""
    loop = asyncio.get_running_loop()
    clock = loop.time
    looks = 0

    def stalling() -> float:
        nonlocal looks
        looks += 1
        assert looks < 10_000, "it never ends"
        return clock() + looks * 0.2

    scheduler = make_scheduler(SlotLimits(at_once=64, at_once_per_host=8))
    scheduler.record_response("a.test")
    await scheduler.set_crawl_delay("a.test", 0.05)
    async with crowd(scheduler) as waiting:
        for _ in range(3):
            waiting.want("a.test")
        await settle()  # all of them wait for the host's delay
        monkeypatch.setattr(loop, "time", stalling)
        scheduler._wake(scheduler._host("a.test"))
        assert scheduler._host("a.test").active == 3
