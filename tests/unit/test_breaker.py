"""How long the circuit breaker waits for a server that is missing."""

import asyncio

import pytest

from services.common.domain.errors import BrokerUnavailableError
from services.common.runtime.dependency_gate import Breaker

PAUSES_OF_A_NIGHT = 2500
"""15 s each: ten hours."""


@pytest.mark.slow
async def test_outage_of_a_whole_night_ends_nothing() -> None:
    stop = asyncio.Event()
    stop.set()  # no pause takes its time
    breaker = Breaker({})

    for _ in range(PAUSES_OF_A_NIGHT):
        await breaker.pause(BrokerUnavailableError("nobody there"), stop)
