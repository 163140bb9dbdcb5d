import pytest

from services.common.adapters.rabbitmq.retry_policy import (
    ATTEMPT_HEADER,
    CODE_HEADER,
    COPIES_HEADER,
    DELIVERY_COUNT_HEADER,
    FETCH_QUEUES,
    FIRST_FAILURE_HEADER,
    MOST_COPIES,
    MOST_RENEWALS,
    MOST_RETURNS,
    PARKED_AT_HEADER,
    POSTPONED_HEADER,
    REASON_HEADER,
    RENEWED_RETURNS,
    Delivery,
    DeliveryOutcome,
    Queues,
    decide_renewal,
    decide_retry,
    to_delivery,
)
from services.common.domain.errors import (
    InvalidEventError,
    ObjectStoreUnavailableError,
    PostponedError,
    TransientError,
)

QUEUES = Queues("work", ("soon", "later"), "parked")


class HiccupError(TransientError):
    code = "hiccup"


def test_transient_errors_go_through_the_delays_then_park() -> None:
    headers: dict[str, object] = {"minio-event": "put"}
    visited = []
    for _ in range(3):
        delivery = to_delivery(b"body", headers, QUEUES)
        disposition = decide_retry(HiccupError("no luck"), delivery, QUEUES)
        visited.append((disposition.outcome, disposition.queue))
        headers = dict(disposition.headers)

    assert visited == [
        (DeliveryOutcome.RETRIED, "soon"),
        (DeliveryOutcome.RETRIED, "later"),
        (DeliveryOutcome.PARKED, "parked"),
    ]
    assert headers["minio-event"] == "put"
    assert headers[CODE_HEADER] == "hiccup"
    assert headers[REASON_HEADER] == "no luck"
    assert PARKED_AT_HEADER in headers


def test_first_failure_keeps_its_time() -> None:
    first = decide_retry(HiccupError("a"), Delivery(b""), QUEUES).headers
    second = decide_retry(HiccupError("b"), to_delivery(b"", first, QUEUES), QUEUES).headers

    assert second[FIRST_FAILURE_HEADER] == first[FIRST_FAILURE_HEADER]
    assert second[ATTEMPT_HEADER] == 3


def test_permanent_error_parks_at_once() -> None:
    disposition = decide_retry(InvalidEventError("Records: missing"), Delivery(b""), QUEUES)

    assert (disposition.outcome, disposition.queue, disposition.code) == (
        DeliveryOutcome.PARKED,
        "parked",
        "invalid_event",
    )


def test_bug_parks_with_its_last_line() -> None:
    disposition = decide_retry(KeyError("oops"), Delivery(b""), QUEUES)

    assert (disposition.queue, disposition.code) == ("parked", "bug")
    assert disposition.headers[REASON_HEADER] == "KeyError: 'oops'"


def test_reason_is_cut_short() -> None:
    disposition = decide_retry(HiccupError("x" * 10_000), Delivery(b""), QUEUES)

    assert len(disposition.headers[REASON_HEADER]) == 1000


@pytest.mark.parametrize("foreign", ["2", None, -1, 0, 2.5])
def test_foreign_attempt_header_counts_as_first(foreign: object) -> None:
    assert to_delivery(b"", {ATTEMPT_HEADER: foreign}, QUEUES).attempt == 1


def test_last_attempt_is_known_to_the_handler() -> None:
    attempts = [to_delivery(b"", {ATTEMPT_HEADER: n}, QUEUES).is_last_attempt for n in (1, 2, 3)]

    assert attempts == [False, False, True]


@pytest.mark.parametrize(
    ("attempt", "max_attempts", "is_last"),
    [(1, 3, False), (3, 3, True), (1, 1, True), (4, 9, True)],
)
def test_transient_error_has_the_lower_limit_of_attempts(
    attempt: int, max_attempts: int, *, is_last: bool
) -> None:
    delivery = to_delivery(b"", {ATTEMPT_HEADER: attempt}, FETCH_QUEUES)

    assert delivery.is_last_for(HiccupError("no luck"), max_attempts) is is_last


def test_delivery_is_returned_until_its_copies_are_used_up() -> None:
    error = ObjectStoreUnavailableError("down")
    seen = []
    headers: dict[str, object] = {}
    for count in (MOST_RETURNS - 1, *[MOST_RETURNS] * (MOST_COPIES + 1)):
        delivery = Delivery(b"", headers={**headers, DELIVERY_COUNT_HEADER: count})
        disposition = decide_retry(error, delivery, QUEUES)
        seen.append((disposition.outcome, disposition.code, disposition.queue))
        assert delivery.is_last_for(error) is (disposition.outcome is DeliveryOutcome.PARKED)
        headers = dict(disposition.headers)

    assert seen == [
        (DeliveryOutcome.RETURNED, "object_store_unavailable", ""),
        *[(DeliveryOutcome.RETURNED, "returned_often", "later")] * MOST_COPIES,
        (DeliveryOutcome.PARKED, "object_store_unavailable", "parked"),
    ]
    assert headers[COPIES_HEADER] == MOST_COPIES


def test_postponed_delivery_is_no_attempt_even_at_the_last_one() -> None:
    delivery = to_delivery(b"", {ATTEMPT_HEADER: 3}, QUEUES)
    error = PostponedError("no slot", seconds=60)

    disposition = decide_retry(error, delivery, QUEUES)

    assert not delivery.is_last_for(error)
    assert (disposition.outcome, disposition.queue) == (DeliveryOutcome.POSTPONED, "later")
    assert disposition.headers == {ATTEMPT_HEADER: 3, POSTPONED_HEADER: 1}


def test_message_of_a_moving_partition_is_renewed_up_to_a_limit() -> None:
    count = 0
    headers: dict[str, object] = {DELIVERY_COUNT_HEADER: RENEWED_RETURNS, "x-host": "h"}
    while disposition := decide_renewal(Delivery(b"", headers=headers), FETCH_QUEUES):
        count += 1
        assert (disposition.outcome, disposition.queue) == (
            DeliveryOutcome.RETURNED,
            "fetch.retry.5s",
        )
        assert DELIVERY_COUNT_HEADER not in disposition.headers
        assert not Delivery(b"", headers=disposition.headers).is_fresh
        headers = {**disposition.headers, DELIVERY_COUNT_HEADER: RENEWED_RETURNS}

    assert count == MOST_RENEWALS
    assert headers["x-host"] == "h"
    young = {DELIVERY_COUNT_HEADER: RENEWED_RETURNS - 1}
    assert decide_renewal(Delivery(b"", headers=young), FETCH_QUEUES) is None
    worn = Delivery(b"", headers={DELIVERY_COUNT_HEADER: RENEWED_RETURNS})
    assert decide_renewal(worn, QUEUES) is None  # no partitions, so no handover
