"""A partition whose hosts are slow: what is held, what is delayed, and who is held up.

RabbitMQ is simulated, so that hours pass within seconds; scheduler and retry policy are real.
"""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from services.common.adapters.rabbitmq.retry_policy import (
    DELAY_SECONDS,
    FETCH_QUEUES,
    Disposition,
    decide_retry,
    to_delivery,
)
from services.common.domain.errors import PostponedError
from services.common.download.client import Download
from services.common.download.errors import FailedDownloadError
from services.common.download.responses import Validators
from services.common.download.urls import host_of
from services.fetcher.main import PARTITION_PREFETCH
from services.fetcher.politeness.scheduler import MOST_HELD_SECONDS, SlotLimits
from services.fetcher.politeness.source import ThrottledDownloader
from tests.support.hosts import make_scheduler
from tests.support.virtual_time import run_in_virtual_time

pytestmark = pytest.mark.slow

DOWNLOAD_SECONDS = 0.05
LIMITS = SlotLimits(at_once=64, at_once_per_host=8, per_second_per_host=50.0)
TTL = dict(zip(FETCH_QUEUES.delays, DELAY_SECONDS, strict=True))


@dataclass
class Web:
    """Hosts, by their names.

    Attributes:
        crawl_delays: Seconds, of those that have one.
        throttling: Hosts that answer 429, and until when.
        retry_after: What those say.
        dead: Hosts that never answer.
        requests: Times of requests, by host.
    """

    crawl_delays: Mapping[str, float] = field(default_factory=dict)
    throttling: Mapping[str, float] = field(default_factory=dict)
    retry_after: float | None = 3600.0
    dead: frozenset[str] = frozenset()
    requests: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    async def crawl_delay(self, url: str) -> float | None:
        return self.crawl_delays.get(host_of(url))

    async def get(
        self, url: str, *, validators: Validators | None = None, max_bytes: int | None = None
    ) -> Download:
        del validators, max_bytes
        host, loop = host_of(url), asyncio.get_running_loop()
        self.requests[host].append(loop.time())
        if host in self.dead:
            await asyncio.sleep(30)
            raise FailedDownloadError("timeout", "no answer", most_attempts=2)
        await asyncio.sleep(DOWNLOAD_SECONDS)
        if loop.time() < self.throttling.get(host, 0.0):
            raise FailedDownloadError("rate_limited", "429", retry_after_seconds=self.retry_after)
        return Download(b"", 200, None)


class Partition:
    """One partition with its delay queues, and the fetcher that takes from it."""

    def __init__(self, web: Web) -> None:
        self._scheduler = make_scheduler(LIMITS)
        self._source = ThrottledDownloader(web, self._scheduler, members=web, files=web)
        self._queue: deque[tuple[str, Mapping[str, Any]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = 0
        self._ended = asyncio.Event()
        self.done: dict[str, list[float]] = defaultdict(list)
        self.failed: dict[str, list[float]] = defaultdict(list)
        self.rounds: Counter[str] = Counter()
        self.longest_hold = 0.0

    async def work_on(self, *hosts: str, seconds: float = 1e9) -> None:
        """Put a job for each host into the queue; return when all ended, or after some time."""
        self._open = len(hosts)
        self._queue.extend((host, {}) for host in hosts)
        self._deliver()
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            pass
        self._queue.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _deliver(self) -> None:
        while self._queue and len(self._tasks) < PARTITION_PREFETCH:
            task = asyncio.create_task(self._settle(*self._queue.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: self._deliver())

    async def _settle(self, host: str, headers: Mapping[str, Any]) -> None:
        delivery = to_delivery(b"", headers, FETCH_QUEUES)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self._scheduler.delay_unless_due(host, due_in=delivery.due_in)
            async with self._scheduler.slot(host):
                self.longest_hold = max(self.longest_hold, loop.time() - began)
                await self._source.get(f"http://{host}/")
        except PostponedError as error:
            self.longest_hold = max(self.longest_hold, loop.time() - began)
            self.rounds[host] += 1
            self._delay(host, decide_retry(error, delivery, FETCH_QUEUES))
        except FailedDownloadError as error:
            if delivery.is_last_for(error, min(3, error.most_attempts)):
                self._end(self.failed[host])
            else:
                self._delay(host, decide_retry(error, delivery, FETCH_QUEUES))
        else:
            self._end(self.done[host])

    def _delay(self, host: str, disposition: Disposition) -> None:
        def expire() -> None:
            self._queue.append((host, disposition.headers))
            self._deliver()

        asyncio.get_running_loop().call_later(TTL[disposition.queue], expire)

    def _end(self, times: list[float]) -> None:
        times.append(asyncio.get_running_loop().time())
        self._open -= 1
        if not self._open:
            self._ended.set()


def worked_on(web: Web, *hosts: str, seconds: float = 1e9) -> Partition:
    async def main() -> Partition:
        partition = Partition(web)
        await partition.work_on(*hosts, seconds=seconds)
        return partition

    return run_in_virtual_time(main())


def mixed(**counts: int) -> list[str]:
    """Return the hosts of jobs in the order of a mixed list."""
    return [
        f"{host}.test"
        for each in range(max(counts.values()))
        for host in counts
        if each < counts[host]
    ]


def test_hosts_with_a_crawl_delay_do_not_hold_up_a_fast_one() -> None:
    slow = {"a.test": 300.0, "b.test": 300.0}

    alone = worked_on(Web(), *mixed(fast=500))
    beside = worked_on(Web(crawl_delays=slow), *mixed(a=500, b=500, fast=500), seconds=60)
    behind = worked_on(Web(crawl_delays=slow), *mixed(a=500, b=500), *mixed(fast=500), seconds=60)

    for partition in (beside, behind):
        assert len(partition.done["fast.test"]) == 500
        assert partition.done["fast.test"][-1] < alone.done["fast.test"][-1] + 1
        assert partition.longest_hold <= MOST_HELD_SECONDS


def test_jobs_of_a_host_with_a_crawl_delay_come_when_due() -> None:
    partition = worked_on(Web(crawl_delays={"a.test": 300.0}), *mixed(a=40))

    times = partition.done["a.test"]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps) >= 299.9
    assert times[-1] < 1.1 * 39 * 300
    assert partition.longest_hold <= MOST_HELD_SECONDS
    assert partition.rounds["a.test"] < 40 * 40


def test_host_that_wants_an_hour_is_not_asked_or_waited_for() -> None:
    slow = {f"h{number}.test": 60.0 for number in range(40)}
    web = Web(throttling=slow)
    counts = {f"h{number}": 40 for number in range(40)}

    partition = worked_on(web, *mixed(**counts, fast=500))

    assert partition.done["fast.test"][-1] < 30
    for host in slow:
        first, *rest = web.requests[host]
        assert first < 30
        assert min(rest) >= first + 3600
        assert len(partition.done[host]) == 40
        assert partition.rounds[host] <= 40 * 10
    assert partition.longest_hold <= MOST_HELD_SECONDS
    assert max(max(partition.done[host]) for host in slow) < 3600 + 1200


def test_dead_hosts_delay_no_other() -> None:
    dead = {f"d{number}": 60 for number in range(8)}
    web = Web(dead=frozenset(f"{name}.test" for name in dead))

    partition = worked_on(web, *mixed(**dead, fast=500))

    assert partition.done["fast.test"][-1] < 40
    assert partition.longest_hold <= MOST_HELD_SECONDS
    assert {host: len(times) for host, times in partition.failed.items()} == dict.fromkeys(
        web.dead, 60
    )


def test_host_that_throttles_for_ever_ends_its_jobs() -> None:
    web = Web(throttling={"a.test": 1e9}, retry_after=None)

    partition = worked_on(web, *mixed(a=200))

    assert len(partition.failed["a.test"]) == 200
    assert partition.failed["a.test"][-1] < 3 * 3600
    assert len(web.requests["a.test"]) < 400


def test_room_full_of_slow_jobs_costs_little() -> None:
    """As many jobs as one batch may have delayed: each round is a copy in RabbitMQ."""
    web = Web(crawl_delays={f"h{number}.test": 60.0 for number in range(20)})

    partition = worked_on(web, *mixed(**{f"h{number}": 250 for number in range(20)}), seconds=3600)

    assert sum(partition.rounds.values()) / 3600 < 2 * 5000 / 600
    assert all(len(times) >= 0.9 * 3600 / 60 for times in partition.done.values())
