"""rabbitmq/definitions.json declares what the code names, and what people may look at for ever."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from infra.local.servers import CONSUMER_TIMEOUT_MS
from services.common.adapters.rabbitmq.retry_policy import (
    DELAY_SECONDS,
    FETCH_QUEUES,
    HOST_HEADER,
    OCR_QUEUES,
    PAGE_QUEUES,
    REPREDICT_QUEUES,
    Queues,
)
from services.common.download.settings import DownloadSettings
from services.provisioner.broker_users import with_users
from services.provisioner.settings import UsersSettings

DEFINITIONS = json.loads((Path(__file__).parents[2] / "rabbitmq/definitions.json").read_text())
QUEUES = {queue["name"]: queue["arguments"] for queue in DEFINITIONS["queues"]}
LOOKS = 100_000
"""At a parking queue; RabbitMQ 4 drops what was looked at 20 times unless told otherwise."""


@pytest.mark.parametrize("queues", [OCR_QUEUES, PAGE_QUEUES, FETCH_QUEUES, REPREDICT_QUEUES])
def test_every_queue_that_is_named_is_declared(queues: Queues) -> None:
    assert {*queues.consumed, *queues.delays, queues.parked} <= QUEUES.keys()
    for name in queues.consumed:
        assert QUEUES[name]["x-dead-letter-routing-key"] == queues.parked


def test_each_host_has_one_queue_with_one_active_consumer() -> None:
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


@pytest.mark.parametrize("queues", [OCR_QUEUES, PAGE_QUEUES, FETCH_QUEUES])
def test_delays_last_as_long_as_the_code_thinks(queues: Queues) -> None:
    seconds = [QUEUES[name]["x-message-ttl"] / 1000 for name in queues.delays]

    assert seconds == list(DELAY_SECONDS)


@pytest.mark.parametrize(
    "path", ["infra/docker/rabbitmq/docreco.conf", "infra/k8s/base/rabbitmq.yaml"]
)
def test_deliveries_may_be_held_longer_than_any_download(path: str) -> None:
    text = (Path(__file__).parents[2] / path).read_text()
    with pytest.raises(ValidationError):
        DownloadSettings(total_timeout_seconds=CONSUMER_TIMEOUT_MS / 1000 / 2 + 1)

    assert re.findall(r"^ *consumer_timeout = (\d+)$", text, re.MULTILINE) == [
        str(CONSUMER_TIMEOUT_MS)
    ]


@pytest.mark.parametrize(
    "queue",
    [OCR_QUEUES.parked, PAGE_QUEUES.parked, FETCH_QUEUES.parked, "raw.unrouted", "pages.unrouted"],
)
def test_looking_never_uses_up_what_is_kept_for_people(queue: str) -> None:
    limits = [
        policy["definition"].get("delivery-limit", 0)
        for policy in DEFINITIONS["policies"]
        if policy["apply-to"] == "queues" and re.search(policy["pattern"], queue)
    ]
    assert limits
    assert min(limits) >= LOOKS


@pytest.mark.parametrize(
    ("user", "queues"),
    [
        ("fetcher", (*FETCH_QUEUES.delays, *FETCH_QUEUES.consumed, FETCH_QUEUES.members)),
        ("consumer", (OCR_QUEUES.work, REPREDICT_QUEUES.work)),
        ("reconciler", (OCR_QUEUES.work, OCR_QUEUES.parked, PAGE_QUEUES.work, PAGE_QUEUES.parked)),
        ("segmenter", (OCR_QUEUES.work, PAGE_QUEUES.work)),
        ("review", (OCR_QUEUES.parked,)),
    ],
)
def test_user_has_a_right_to_each_queue_whose_depth_it_asks(
    user: str, queues: Sequence[str]
) -> None:
    """RabbitMQ 4.2.8 and 4.3.1 answer ACCESS_REFUSED to others; earlier versions do not."""
    password = SecretStr("some-password")
    users = UsersSettings.model_validate(dict.fromkeys(UsersSettings.model_fields, password))
    [rights] = [
        each for each in json.loads(with_users(b"{}", users))["permissions"] if each["user"] == user
    ]
    for queue in queues:
        kinds = ("configure", "write", "read")
        assert any(re.search(rights[kind], queue) for kind in kinds), queue
        assert not re.search(rights["configure"], queue)


def test_returned_delivery_is_counted_by_every_version() -> None:
    """From 4.3 on ``basic.nack`` with requeue leaves ``x-delivery-count`` as it is."""
    folder = Path(__file__).parents[2] / "services"

    assert not [path for path in folder.rglob("*.py") if ".nack(" in path.read_text()]
