"""Requests that wait for the same server go there together."""

import asyncio
from collections.abc import Sequence

import pytest

from services.common.adapters.request_batcher import RequestBatcher
from services.common.domain.errors import PermanentError
from tests.support.waiting import deadline


class RefusedError(PermanentError):
    code = "refused"


class Server:
    """Doubles numbers, a group at a time; refuses groups with a 13."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.error: Exception | None = None

    async def double(self, numbers: Sequence[int]) -> Sequence[int]:
        self.groups.append(list(numbers))
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        if 13 in numbers:
            raise RefusedError("13")
        return [2 * number for number in numbers]


async def test_first_goes_at_once_and_later_ones_together() -> None:
    server = Server()
    double = RequestBatcher(server.double, most=3)

    answers = await asyncio.gather(*(double(number) for number in range(6)))

    assert answers == [0, 2, 4, 6, 8, 10]
    assert server.groups == [[0, 1, 2], [3, 4, 5]]


async def test_stream_of_requests_becomes_larger_groups_not_more() -> None:
    server = Server()
    double = RequestBatcher(server.double, every_seconds=1.0)
    tasks: list[asyncio.Task[int]] = []

    assert await double(0) == 0
    for number in range(1, 6):
        tasks.append(asyncio.create_task(double(number)))
        for _ in range(5):  # a group of its own would be answered by now
            await asyncio.sleep(0)

    assert await asyncio.gather(*tasks) == [2, 4, 6, 8, 10]
    assert server.groups == [[0], [1, 2, 3, 4, 5]]


async def test_full_group_does_not_wait() -> None:
    server = Server()
    double = RequestBatcher(server.double, most=2, every_seconds=3600.0)

    async with deadline():
        assert await asyncio.gather(*(double(number) for number in range(4))) == [0, 2, 4, 6]


async def test_one_that_is_refused_takes_no_other_along() -> None:
    double = RequestBatcher(Server().double)

    answers = await asyncio.gather(*(double(each) for each in (1, 13, 2)), return_exceptions=True)

    assert answers[0] == 2
    assert isinstance(answers[1], RefusedError)
    assert answers[2] == 4


async def test_all_get_the_error_and_the_server_is_asked_again() -> None:
    server = Server()
    server.error = OSError("down")
    double = RequestBatcher(server.double)

    answers = await asyncio.gather(double(1), double(2), return_exceptions=True)
    server.error = None

    assert [type(each) for each in answers] == [OSError, OSError]
    assert await double(3) == 6


async def test_who_gives_up_waiting_spoils_nothing_for_others() -> None:
    double = RequestBatcher(Server().double)
    gone = asyncio.create_task(double(1))
    stays = asyncio.create_task(double(2))
    await asyncio.sleep(0)
    gone.cancel()

    assert await stays == 4
    with pytest.raises(asyncio.CancelledError):
        await gone
