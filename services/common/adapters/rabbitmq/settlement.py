"""What becomes of a delivery: the decision, apart from the client that carries it out.

* the handler returned: acknowledged;
* ``TransientError``: a copy goes to the next delay queue, then the original is acknowledged;
  after the last delay, to the parking queue with the reason;
* ``PostponedError``: a copy goes to the delay queue that fits, and counts as no attempt;
* ``PermanentError``, or a bug of ours: to the parking queue with the reason;
* ``UnavailableError``: consuming stops, the delivery returns to its queue, and consuming goes on
  when the server that was missing answers again;
* cancelled: left unsettled, so RabbitMQ delivers it again.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from services.common.domain.errors import (
    BrokerUnavailableError,
    PermanentError,
    PipelineError,
    PostponedError,
    TransientError,
    UnavailableError,
)
from services.common.domain.redaction import hide_secrets

ATTEMPT_HEADER = "x-attempt"
FIRST_FAILURE_HEADER = "x-first-failure"
PARKED_AT_HEADER = "x-parked-at"
CODE_HEADER = "x-code"
REASON_HEADER = "x-reason"
POSTPONED_HEADER = "x-postponed"
"""How often it was delayed without being tried, for want of room."""
DUE_HEADER = "x-due"
"""When it may be tried, in seconds of Unix time, where it was delayed until then."""
DELAY_SECONDS = (5.0, 60.0, 600.0)
"""Of the delay queues, in order; as in ``rabbitmq/definitions.json``."""
MOST_LATE = 0.1
"""A delay may be longer than the wait by so much of it: one round costs less than several."""
HOST_HEADER = "x-host"
"""What ``fetch.hosts`` hashes: all work on one host is in one queue, and so in one process."""
REPLAYS_HEADER = "x-replays"
REPLAYED_AT_HEADER = "x-replayed-at"
PREVIOUS_CODE_HEADER = "x-previous-code"
PREVIOUS_REASON_HEADER = "x-previous-reason"
COPIES_HEADER = "x-returned-copies"
RENEWALS_HEADER = "x-renewals"
DELIVERY_COUNT_HEADER = "x-delivery-count"
"""A quorum queue's own count of how often it delivered a message before."""
MOST_RETURNS = 20
"""So often a delivery returns to its queue at once; then a copy rests in the longest delay.

Far below the ``x-delivery-limit`` of ``rabbitmq/definitions.json``, at which RabbitMQ parks a
message without a reason: that limit is for messages that kill their consumer.
"""
MOST_COPIES = 3
"""So often a copy rests; a server that was away returns a delivery once, however long it was."""
RENEWED_RETURNS = 50
"""So often a partition's message returns; then a copy without that count takes its place.

RabbitMQ counts each time that a partition changes hands while a message only waits in it for its
host's turn, and would park it at the limit though nothing is wrong with it.
"""
MOST_RENEWALS = 10
"""So often a copy takes its place: one that kills its consumer is parked all the same."""
LONGEST_REASON = 1000
BUG = "bug"
"""Code of what is none of the errors that this project raises on purpose."""
RETURNED_OFTEN, RENEWED = "returned_often", "renewed"
BY_BROKER = frozenset({DELIVERY_COUNT_HEADER, "x-death"})
"""Headers of RabbitMQ's own, beside all that begin with ``x-first-death-`` or ``x-last-death-``."""


class Outcome(StrEnum):
    """What became of a delivery."""

    ACKED = "acked"
    RETRIED = "retried"
    POSTPONED = "postponed"
    PARKED = "parked"
    RETURNED = "returned"
    LOST = "lost"
    """The connection went before it was settled: RabbitMQ delivers it again."""


@dataclass(frozen=True)
class Queues:
    """A work queue and where its failures go; names as in ``rabbitmq/definitions.json``."""

    work: str
    delays: tuple[str, ...]
    """Delay queues in order; each sends back to ``work`` when its time has passed."""
    parked: str
    exchange: str = ""
    """Work is published to it; empty: straight to ``work``."""
    partitions: tuple[str, ...] = ()
    """Queues that ``exchange`` divides the work among, each with one active consumer at a time."""
    members: str = ""
    """Queue without messages: its consumers are the processes that share the partitions."""

    @property
    def consumed(self) -> tuple[str, ...]:
        """The queues that work is taken from."""
        return self.partitions or (self.work,)


OCR_QUEUES = Queues("ocr.jobs", ("ocr.retry.5s", "ocr.retry.1m", "ocr.retry.10m"), "ocr.parked")
REPREDICT_QUEUES = Queues("ocr.repredict", OCR_QUEUES.delays, OCR_QUEUES.parked)
"""Images that are read again while no other waits; a retry comes back through ``ocr.jobs``."""
FETCH_QUEUES = Queues(
    "fetch.jobs",
    ("fetch.retry.5s", "fetch.retry.1m", "fetch.retry.10m"),
    "fetch.parked",
    exchange="fetch.hosts",
    partitions=tuple(f"fetch.jobs.{number:02d}" for number in range(16)),
    members="fetch.members",
)


@dataclass(frozen=True)
class Delivery:
    """A message as a handler sees it."""

    body: bytes
    attempt: int = 1
    """1 for the first time; each delayed retry adds one."""
    is_last_attempt: bool = False
    headers: Mapping[str, Any] = field(default_factory=dict)
    begin: Callable[[], None] = lambda: None
    """To be called by a handler of partitions once the work begins: while it only waits for its
    turn, the delivery may be taken away and given to another process."""

    @property
    def is_fresh(self) -> bool:
        """Whether nobody was given this message, or a copy of it, before."""
        headers = self.headers
        return self.attempt == 1 and not any(
            headers.get(name)
            for name in (
                *(DELIVERY_COUNT_HEADER, COPIES_HEADER, RENEWALS_HEADER),
                *(POSTPONED_HEADER, DUE_HEADER),
            )
        )

    @property
    def postponed(self) -> int:
        """How often it was delayed without being tried, for want of room."""
        return _count(self.headers, POSTPONED_HEADER)

    @property
    def due_in(self) -> float:
        """Seconds until it may be tried."""
        remaining = _count(self.headers, DUE_HEADER) - time.time()
        return min(max(remaining, 0.0), DELAY_SECONDS[-1])


Handler = Callable[[Delivery], Awaitable[str]]
"""Does the work and returns its code, the metric label: ``predicted``, ``rejected``, …"""


@dataclass(frozen=True)
class Verdict:
    """Where a copy of a failed delivery goes before the original is acknowledged."""

    outcome: Outcome
    code: str
    queue: str
    headers: Mapping[str, Any]


def to_delivery(body: bytes, headers: Mapping[str, Any], queues: Queues) -> Delivery:
    """Read the attempt from the headers; a foreign or missing value counts as the first."""
    value = headers.get(ATTEMPT_HEADER)
    attempt = value if isinstance(value, int) and value > 0 else 1
    return Delivery(body, attempt, attempt > len(queues.delays), dict(headers))


def postpone(error: PostponedError, delivery: Delivery, queues: Queues) -> Verdict:
    """Decide where a delivery waits until it may be tried.

    The longest delay that fits takes it; what is left of the wait then takes another round.
    """
    headers = own_headers(delivery.headers)
    if error.is_reserved:
        headers[DUE_HEADER] = round(time.time() + error.seconds)
    else:
        headers[POSTPONED_HEADER] = delivery.postponed + 1
    most = error.seconds * (1 + MOST_LATE)
    delays = zip(queues.delays, DELAY_SECONDS, strict=False)
    fitting = [queue for queue, seconds in delays if seconds <= most]
    return Verdict(Outcome.POSTPONED, error.code, (fitting or queues.delays[:1])[-1], headers)


def judge(error: Exception, delivery: Delivery, queues: Queues) -> Verdict:
    """Decide where a failed delivery goes.

    Args:
        error: What the handler raised; an ``UnavailableError`` only of a delivery that
            ``is_worn_out``, else see ``returned``.
        delivery: The delivery that failed.
        queues: Where it may go.
    """
    code = error.code if isinstance(error, PipelineError) else BUG
    reason = str(error) if isinstance(error, PermanentError | TransientError) else _last_line(error)
    now = datetime.now(tz=UTC).isoformat()
    headers = {
        FIRST_FAILURE_HEADER: now,
        **own_headers(delivery.headers),
        CODE_HEADER: code,
        REASON_HEADER: hide_secrets(reason)[:LONGEST_REASON],
    }
    if isinstance(error, TransientError) and not delivery.is_last_attempt:
        headers[ATTEMPT_HEADER] = delivery.attempt + 1
        return Verdict(Outcome.RETRIED, code, queues.delays[delivery.attempt - 1], headers)
    headers[PARKED_AT_HEADER] = now
    return Verdict(Outcome.PARKED, code, queues.parked, headers)


def returned(delivery: Delivery, queues: Queues) -> Verdict | None:
    """Decide about a delivery that could not be tried: None returns it to its queue as it is."""
    if _count(delivery.headers, DELIVERY_COUNT_HEADER) < MOST_RETURNS:
        return None
    copies = _count(delivery.headers, COPIES_HEADER) + 1
    headers = {**own_headers(delivery.headers), COPIES_HEADER: copies}
    return Verdict(Outcome.RETURNED, RETURNED_OFTEN, queues.delays[-1], headers)


def renewed(delivery: Delivery, queues: Queues) -> Verdict | None:
    """Decide whether a copy takes a message's place before it is worked on: None where not."""
    renewals = _count(delivery.headers, RENEWALS_HEADER)
    is_worn = _count(delivery.headers, DELIVERY_COUNT_HEADER) >= RENEWED_RETURNS
    if not (queues.partitions and is_worn and renewals < MOST_RENEWALS):
        return None
    headers = {**own_headers(delivery.headers), RENEWALS_HEADER: renewals + 1}
    return Verdict(Outcome.RETURNED, RENEWED, queues.delays[0], headers)


def is_worn_out(delivery: Delivery) -> bool:
    """Whether a delivery has returned, and rested, as often as it may."""
    return (
        _count(delivery.headers, COPIES_HEADER) >= MOST_COPIES
        and _count(delivery.headers, DELIVERY_COUNT_HEADER) >= MOST_RETURNS
    )


def possible_settlements(handled: Iterable[str]) -> Iterator[tuple[Outcome, str]]:
    """Yield every outcome and code that a delivery can be settled with.

    Args:
        handled: The codes that the handler returns.
    """
    failed = PermanentError.codes() | TransientError.codes()
    missing = UnavailableError.codes()
    codes: dict[Outcome, Iterable[str]] = {
        Outcome.ACKED: handled,
        Outcome.RETRIED: TransientError.codes(),
        Outcome.POSTPONED: PostponedError.codes(),
        Outcome.PARKED: failed | missing | {BUG},
        Outcome.RETURNED: missing | {RETURNED_OFTEN, RENEWED},
        Outcome.LOST: [BrokerUnavailableError.code],
    }
    return ((outcome, code) for outcome, each in codes.items() for code in sorted(each))


def own_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headers without RabbitMQ's own: a copy has a history of its own.

    RabbitMQ drops a message without a word that would enter a queue in whose name it has died
    before, and shows a stale count where it has none yet.
    """
    return {
        name: value
        for name, value in headers.items()
        if name not in BY_BROKER and not name.startswith(("x-first-death-", "x-last-death-"))
    }


def replay_headers(headers: Mapping[str, Any], *, code: str, reason: str) -> dict[str, Any]:
    """Return the headers with which a parked message tries again.

    It begins at the first attempt; when it failed first, why it was parked and how often it was
    replayed stay.

    Args:
        headers: As parked.
        code: Why it was parked.
        reason: The same in words.
    """
    dropped = {
        *(ATTEMPT_HEADER, COPIES_HEADER, POSTPONED_HEADER, RENEWALS_HEADER, DUE_HEADER),
        *(CODE_HEADER, REASON_HEADER, PARKED_AT_HEADER),
    }
    kept = {name: value for name, value in own_headers(headers).items() if name not in dropped}
    replays = headers.get(REPLAYS_HEADER)
    return {
        **kept,
        REPLAYS_HEADER: replays + 1 if isinstance(replays, int) else 1,
        REPLAYED_AT_HEADER: datetime.now(tz=UTC).isoformat(),
        PREVIOUS_CODE_HEADER: code,
        PREVIOUS_REASON_HEADER: reason,
    }


def _count(headers: Mapping[str, Any], name: str) -> int:
    value = headers.get(name)
    return value if isinstance(value, int) else 0


def _last_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
