"""rabbitmq/definitions.json declares what the code names, and what people may look at for ever."""

import json
import re
from pathlib import Path

import pytest

from services.common.settlement import FETCH_QUEUES, OCR_QUEUES, REPREDICT_QUEUES, Queues

DEFINITIONS = json.loads((Path(__file__).parents[2] / "rabbitmq/definitions.json").read_text())
QUEUES = {queue["name"]: queue["arguments"] for queue in DEFINITIONS["queues"]}
LOOKS = 100_000
"""At a parking queue; RabbitMQ 4 drops what was looked at 20 times unless told otherwise."""


@pytest.mark.parametrize("queues", [OCR_QUEUES, FETCH_QUEUES, REPREDICT_QUEUES])
def test_every_queue_that_is_named_is_declared(queues: Queues) -> None:
    assert {queues.work, *queues.delays, queues.parked} <= QUEUES.keys()
    assert QUEUES[queues.work]["x-dead-letter-routing-key"] == queues.parked


@pytest.mark.parametrize("queue", [OCR_QUEUES.parked, FETCH_QUEUES.parked, "raw.unrouted"])
def test_looking_never_uses_up_what_is_kept_for_people(queue: str) -> None:
    limits = [
        policy["definition"].get("delivery-limit", 0)
        for policy in DEFINITIONS["policies"]
        if policy["apply-to"] == "queues" and re.search(policy["pattern"], queue)
    ]
    assert limits
    assert min(limits) >= LOOKS
