"""Work that is repeated until a stop, and what is retried without end."""

import asyncio
from itertools import count

import pytest

from services.common.runtime.periodic import POLL_SECONDS, doubled, periodic, polled, retry_for_ever
from tests.support.virtual_time import run_in_virtual_time


def begins(outcomes: list[bool | None], *, retry_seconds: float) -> list[float]:
    """Return when work begins that is repeated each 60 s; the last one sets the stop."""
    found: list[float] = []

    async def main() -> None:
        stop, now = asyncio.Event(), asyncio.get_running_loop().time

        async def work() -> bool | None:
            found.append(now())
            if len(found) == len(outcomes):
                stop.set()
            return outcomes[len(found) - 1]

        await periodic(work, stop, seconds=60, retry_seconds=retry_seconds)
        assert now() == found[-1]  # a stop ends the pause

    run_in_virtual_time(main())
    return found


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [([True, None, True], [0, 60, 120]), ([False, True, False, True], [0, 10, 70, 80])],
)
def test_failed_work_is_repeated_sooner(outcomes: list[bool | None], expected: list[float]) -> None:
    assert begins(outcomes, retry_seconds=10) == pytest.approx(expected)


def test_retry_is_no_later_than_the_next_time() -> None:
    assert begins([False, True], retry_seconds=600) == pytest.approx([0, 60])


def test_long_outage_does_not_overflow_backoff() -> None:
    assert [doubled(0.1, times, longest=15) for times in (0, 1, 2, 2500)] == [0.1, 0.2, 0.4, 15]


def test_retries_go_on_until_success_without_waits_after_stop() -> None:
    attempts = count(1)

    async def main() -> float:
        stop, now = asyncio.Event(), asyncio.get_running_loop().time
        async for attempt in retry_for_ever(stop, first=1, longest=5):
            with attempt:
                number = next(attempts)
                if number == 50:
                    stop.set()
                if number < 2000:
                    raise ConnectionError
        return now()

    assert 0 < run_in_virtual_time(main()) <= 50 * 5
    assert next(attempts) == 2001


@pytest.mark.parametrize(
    ("wanted", "polls", "answer"),
    [(0, 0, 0), (3, 3, 3), (100, 5, 5)],
    ids=["at once", "later", "never"],
)
def test_question_is_repeated_until_its_answer_or_the_end(
    wanted: int, polls: int, answer: int
) -> None:
    async def main() -> None:
        numbers, now = count(), asyncio.get_running_loop().time

        async def ask() -> int:
            return next(numbers)

        deadline = 5 * POLL_SECONDS
        assert await polled(ask, lambda each: each == wanted, deadline=deadline) == answer
        assert now() == pytest.approx(polls * POLL_SECONDS)

    run_in_virtual_time(main())
