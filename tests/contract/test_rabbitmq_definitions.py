"""rabbitmq/definitions.json declares what the code names, and what people may look at for ever."""

import json
import re
from pathlib import Path

import pytest

from services.common.settlement import (
    FETCH_QUEUES,
    HOST_HEADER,
    OCR_QUEUES,
    REPREDICT_QUEUES,
    Queues,
)

DEFINITIONS = json.loads((Path(__file__).parents[2] / "rabbitmq/definitions.json").read_text())
QUEUES = {queue["name"]: queue["arguments"] for queue in DEFINITIONS["queues"]}
LOOKS = 100_000
"""At a parking queue; RabbitMQ 4 drops what was looked at 20 times unless told otherwise."""


@pytest.mark.parametrize("queues", [OCR_QUEUES, FETCH_QUEUES, REPREDICT_QUEUES])
def test_every_queue_that_is_named_is_declared(queues: Queues) -> None:
    assert {*queues.consumed, *queues.delays, queues.parked} <= QUEUES.keys()
    for name in queues.consumed:
        assert QUEUES[name]["x-dead-letter-routing-key"] == queues.parked


def test_work_on_one_host_is_in_one_queue_with_one_active_consumer() -> None:
    (exchange,) = (
        each for each in DEFINITIONS["exchanges"] if each["name"] == FETCH_QUEUES.exchange
    )
    bound = {
        each["destination"]: each["routing_key"]
        for each in DEFINITIONS["bindings"]
        if each["source"] == FETCH_QUEUES.exchange
    }

    assert exchange["type"] == "x-consistent-hash"
    assert exchange["arguments"] == {"hash-header": HOST_HEADER}
    assert bound.keys() == set(FETCH_QUEUES.partitions)
    assert len(set(bound.values())) == 1  # weights: each gets as much as the others
    for name in FETCH_QUEUES.partitions:
        assert QUEUES[name]["x-single-active-consumer"] is True
    for name in FETCH_QUEUES.delays:
        assert QUEUES[name]["x-dead-letter-exchange"] == FETCH_QUEUES.exchange
    assert FETCH_QUEUES.members in QUEUES


@pytest.mark.parametrize("queue", [OCR_QUEUES.parked, FETCH_QUEUES.parked, "raw.unrouted"])
def test_looking_never_uses_up_what_is_kept_for_people(queue: str) -> None:
    limits = [
        policy["definition"].get("delivery-limit", 0)
        for policy in DEFINITIONS["policies"]
        if policy["apply-to"] == "queues" and re.search(policy["pattern"], queue)
    ]
    assert limits
    assert min(limits) >= LOOKS
