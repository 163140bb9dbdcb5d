import pytest

from services.common.errors import InvalidEventError, TransientError
from services.common.settlement import (
    ATTEMPT_HEADER,
    CODE_HEADER,
    FIRST_FAILURE_HEADER,
    PARKED_AT_HEADER,
    REASON_HEADER,
    Delivery,
    Outcome,
    Queues,
    judge,
    to_delivery,
)

QUEUES = Queues("work", ("soon", "later"), "parked")


class HiccupError(TransientError):
    code = "hiccup"


def test_transient_errors_go_through_the_delays_then_park() -> None:
    headers: dict[str, object] = {"minio-event": "put"}
    visited = []
    for _ in range(3):
        delivery = to_delivery(b"body", headers, QUEUES)
        verdict = judge(HiccupError("no luck"), delivery, QUEUES)
        visited.append((verdict.outcome, verdict.queue))
        headers = dict(verdict.headers)

    assert visited == [
        (Outcome.RETRIED, "soon"),
        (Outcome.RETRIED, "later"),
        (Outcome.PARKED, "parked"),
    ]
    assert headers["minio-event"] == "put"
    assert headers[CODE_HEADER] == "hiccup"
    assert headers[REASON_HEADER] == "no luck"
    assert PARKED_AT_HEADER in headers


def test_first_failure_keeps_its_time() -> None:
    first = judge(HiccupError("a"), Delivery(b""), QUEUES).headers
    second = judge(HiccupError("b"), to_delivery(b"", first, QUEUES), QUEUES).headers

    assert second[FIRST_FAILURE_HEADER] == first[FIRST_FAILURE_HEADER]
    assert second[ATTEMPT_HEADER] == 3


def test_permanent_error_parks_at_once() -> None:
    verdict = judge(InvalidEventError("Records: missing"), Delivery(b""), QUEUES)

    assert (verdict.outcome, verdict.queue, verdict.code) == (
        Outcome.PARKED,
        "parked",
        "invalid_event",
    )


def test_bug_parks_with_its_last_line() -> None:
    verdict = judge(KeyError("oops"), Delivery(b""), QUEUES)

    assert (verdict.queue, verdict.code) == ("parked", "bug")
    assert verdict.headers[REASON_HEADER] == "KeyError: 'oops'"


def test_reason_is_cut_short() -> None:
    verdict = judge(HiccupError("x" * 10_000), Delivery(b""), QUEUES)

    assert len(verdict.headers[REASON_HEADER]) == 1000


@pytest.mark.parametrize("foreign", ["2", None, -1, 0, 2.5])
def test_foreign_attempt_header_counts_as_first(foreign: object) -> None:
    assert to_delivery(b"", {ATTEMPT_HEADER: foreign}, QUEUES).attempt == 1


def test_last_attempt_is_known_to_the_handler() -> None:
    attempts = [to_delivery(b"", {ATTEMPT_HEADER: n}, QUEUES).is_last_attempt for n in (1, 2, 3)]

    assert attempts == [False, False, True]
