"""Retry policy: decide what happens to a delivery, without I/O.

* the handler returned: acknowledged;
* ``TransientError``: a copy goes to the next delay queue, then the original is acknowledged;
  after the last delay, to the parking queue with the reason;
* ``PostponedError``: a copy goes to a matching delay queue, without counting as an attempt;
* ``PermanentError``, or an unexpected exception: to the parking queue with the reason;
* ``UnavailableError``: consuming stops, the delivery returns to its queue, and consuming resumes
  when the dependency answers again;
* cancelled: left unsettled, so RabbitMQ redelivers it.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from math import inf
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
"""Number of delays without an attempt, for lack of capacity."""
DUE_HEADER = "x-due"
"""Unix time of the next attempt, if it was postponed."""
DELAY_SECONDS = (5.0, 60.0, 600.0)
"""Delays of the delay queues, in order; as in ``rabbitmq/definitions.json``."""
MOST_LATE = 0.1
"""Tolerated excess of a delay, as a share of the wait: one round is cheaper than several."""
HOST_HEADER = "x-host"
"""Hashed by ``fetch.hosts``, so all jobs of a host are in one queue and one process."""
COPIES_HEADER = "x-returned-copies"
RENEWALS_HEADER = "x-renewals"
DELIVERY_COUNT_HEADER = "x-delivery-count"
"""A quorum queue's count of earlier deliveries of a message."""
MOST_RETURNS = 20
"""Immediate redeliveries before a copy goes to the longest delay queue.

Far below the ``x-delivery-limit`` of ``rabbitmq/definitions.json``, at which RabbitMQ parks a
message without a reason: that limit is for messages that kill their consumer.
"""
MOST_COPIES = 3
"""Limit of such copies; an outage returns a delivery once, however long it lasts."""
RENEWED_RETURNS = 50
"""Redeliveries of a partition's message before a copy with a new count replaces it.

RabbitMQ counts each handover of a partition in which a message only waits for its host, and would
park a good message at the limit.
"""
MOST_RENEWALS = 10
"""Limit of such replacements, so that a message that kills its consumer is parked."""
LONGEST_REASON = 1000
BUG = "bug"
"""Code of an unexpected exception."""
RETURNED_OFTEN, RENEWED = "returned_often", "renewed"
BY_BROKER = frozenset({DELIVERY_COUNT_HEADER, "x-death"})
"""Headers set by RabbitMQ, beside ``x-first-death-*`` and ``x-last-death-*``."""


class DeliveryOutcome(StrEnum):
    """Outcome of a delivery."""

    ACKED = "acked"
    RETRIED = "retried"
    POSTPONED = "postponed"
    PARKED = "parked"
    RETURNED = "returned"
    LOST = "lost"
    """The connection was lost before it was settled: RabbitMQ redelivers it."""


@dataclass(frozen=True)
class Queues:
    """A work queue with its delay and parking queues; names as in ``rabbitmq/definitions.json``."""

    work: str
    delays: tuple[str, ...]
    """Delay queues in order; expired messages return to ``work``."""
    parked: str
    exchange: str = ""
    """Exchange to publish to; empty: directly to ``work``."""
    partitions: tuple[str, ...] = ()
    """Queues bound to ``exchange``, each with a single active consumer."""
    members: str = ""
    """Queue without messages, whose consumers are the processes that share the partitions."""

    @property
    def consumed(self) -> tuple[str, ...]:
        """The queues to consume."""
        return self.partitions or (self.work,)


OCR_QUEUES = Queues("ocr.jobs", ("ocr.retry.5s", "ocr.retry.1m", "ocr.retry.10m"), "ocr.parked")
REPREDICT_QUEUES = Queues("ocr.repredict", OCR_QUEUES.delays, OCR_QUEUES.parked)
"""Images to read again when ``ocr.jobs`` is idle; retries return through ``ocr.jobs``."""
PAGE_QUEUES = Queues(
    "pages.jobs", ("pages.retry.5s", "pages.retry.1m", "pages.retry.10m"), "pages.parked"
)
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
    """A message as passed to a handler."""

    body: bytes
    attempt: int = 1
    """1 for the first time; each delayed retry adds one."""
    is_last_attempt: bool = False
    headers: Mapping[str, Any] = field(default_factory=dict)
    begin: Callable[[], None] = lambda: None
    """Called by a handler of partitions when the work begins; before that, the delivery may be
    handed over to another process."""

    @property
    def is_fresh(self) -> bool:
        """Whether neither this message nor a copy of it was delivered before."""
        counted = (DELIVERY_COUNT_HEADER, COPIES_HEADER, RENEWALS_HEADER)
        delayed = (POSTPONED_HEADER, DUE_HEADER)
        return self.attempt == 1 and not any(map(self.headers.get, (*counted, *delayed)))

    @property
    def postponed(self) -> int:
        """Number of delays without an attempt."""
        return _count(self.headers, POSTPONED_HEADER)

    def is_last_for(self, error: Exception, max_attempts: float = inf) -> bool:
        """Whether no attempt follows this error.

        Args:
            error: Raised by the handler.
            max_attempts: The handler's limit; the number of delay queues may set a lower one.
        """
        match error:
            case PostponedError():
                return False
            case UnavailableError():
                return self.needs_copy and _count(self.headers, COPIES_HEADER) >= MOST_COPIES
            case TransientError():
                return self.is_last_attempt or self.attempt >= max_attempts
            case _:
                return True

    @property
    def needs_copy(self) -> bool:
        """Whether it has used up its returns, so that a copy is returned instead."""
        return _count(self.headers, DELIVERY_COUNT_HEADER) >= MOST_RETURNS

    @property
    def due_in(self) -> float:
        """Seconds until the next attempt."""
        remaining = _count(self.headers, DUE_HEADER) - time.time()
        return min(max(remaining, 0.0), DELAY_SECONDS[-1])


Handler = Callable[[Delivery], Awaitable[str]]
"""Processes a delivery and returns its code, a metric label: ``predicted``, ``rejected``, …"""


@dataclass(frozen=True)
class Disposition:
    """Destination and headers of the copy of a failed delivery."""

    outcome: DeliveryOutcome
    code: str
    queue: str = ""
    """Empty: no copy, the delivery returns to its queue unchanged."""
    headers: Mapping[str, Any] = field(default_factory=dict)


def to_delivery(body: bytes, headers: Mapping[str, Any], queues: Queues) -> Delivery:
    """Read the attempt from the headers; a missing or invalid value counts as the first."""
    value = headers.get(ATTEMPT_HEADER)
    attempt = value if isinstance(value, int) and value > 0 else 1
    return Delivery(body, attempt, attempt > len(queues.delays), dict(headers))


def decide_retry(error: Exception, delivery: Delivery, queues: Queues) -> Disposition:
    """Decide what happens to a delivery whose handler raised an error."""
    match error:
        case PostponedError():
            return _postpone(error, delivery, queues)
        case UnavailableError() if not delivery.is_last_for(error):
            return _requeue(error, delivery, queues)
        case _:
            return _retry_or_park(error, delivery, queues)


def _postpone(error: PostponedError, delivery: Delivery, queues: Queues) -> Disposition:
    """Choose the delay queue of a postponed delivery.

    The longest delay that fits; the rest of the wait takes another round.
    """
    headers = own_headers(delivery.headers)
    if error.is_reserved:
        headers[DUE_HEADER] = round(time.time() + error.seconds)
    else:
        headers[POSTPONED_HEADER] = delivery.postponed + 1
    most = error.seconds * (1 + MOST_LATE)
    delays = zip(queues.delays, DELAY_SECONDS, strict=False)
    fitting = [queue for queue, seconds in delays if seconds <= most]
    delay = (fitting or queues.delays[:1])[-1]
    return Disposition(DeliveryOutcome.POSTPONED, error.code, delay, headers)


def _requeue(error: UnavailableError, delivery: Delivery, queues: Queues) -> Disposition:
    """Return a delivery that could not be tried, or a copy of it after a delay."""
    if not delivery.needs_copy:
        return Disposition(DeliveryOutcome.RETURNED, error.code)
    copies = _count(delivery.headers, COPIES_HEADER) + 1
    headers = {**own_headers(delivery.headers), COPIES_HEADER: copies}
    return Disposition(DeliveryOutcome.RETURNED, RETURNED_OFTEN, queues.delays[-1], headers)


def _retry_or_park(error: Exception, delivery: Delivery, queues: Queues) -> Disposition:
    code = error.code if isinstance(error, PipelineError) else BUG
    is_ours = isinstance(error, PermanentError | TransientError)
    reason = str(error) if is_ours else f"{type(error).__name__}: {error}"
    now = datetime.now(tz=UTC).isoformat()
    headers = {
        FIRST_FAILURE_HEADER: now,
        **own_headers(delivery.headers),
        CODE_HEADER: code,
        REASON_HEADER: hide_secrets(reason)[:LONGEST_REASON],
    }
    if not delivery.is_last_for(error):
        headers[ATTEMPT_HEADER] = delivery.attempt + 1
        delay = queues.delays[delivery.attempt - 1]
        return Disposition(DeliveryOutcome.RETRIED, code, delay, headers)
    headers[PARKED_AT_HEADER] = now
    return Disposition(DeliveryOutcome.PARKED, code, queues.parked, headers)


def decide_renewal(delivery: Delivery, queues: Queues) -> Disposition | None:
    """Decide whether a copy with a new delivery count replaces a message; None: no."""
    renewals = _count(delivery.headers, RENEWALS_HEADER)
    is_worn = _count(delivery.headers, DELIVERY_COUNT_HEADER) >= RENEWED_RETURNS
    if not (queues.partitions and is_worn and renewals < MOST_RENEWALS):
        return None
    headers = {**own_headers(delivery.headers), RENEWALS_HEADER: renewals + 1}
    return Disposition(DeliveryOutcome.RETURNED, RENEWED, queues.delays[0], headers)


def possible_settlements(handled: Iterable[str]) -> Iterator[tuple[DeliveryOutcome, str]]:
    """Yield every possible outcome and code of a delivery.

    Args:
        handled: The codes that the handler returns.
    """
    failed = PermanentError.codes() | TransientError.codes()
    missing = UnavailableError.codes()
    codes: dict[DeliveryOutcome, Iterable[str]] = {
        DeliveryOutcome.ACKED: handled,
        DeliveryOutcome.RETRIED: TransientError.codes(),
        DeliveryOutcome.POSTPONED: PostponedError.codes(),
        DeliveryOutcome.PARKED: failed | missing | {BUG},
        DeliveryOutcome.RETURNED: missing | {RETURNED_OFTEN, RENEWED},
        DeliveryOutcome.LOST: [BrokerUnavailableError.code],
    }
    return ((outcome, code) for outcome, each in codes.items() for code in sorted(each))


def own_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headers for a copy, without those set by RabbitMQ.

    RabbitMQ silently drops a message that enters a queue where it was dead-lettered before, and
    keeps a stale count.
    """
    return {
        name: value
        for name, value in headers.items()
        if name not in BY_BROKER and not name.startswith(("x-first-death-", "x-last-death-"))
    }


def _count(headers: Mapping[str, Any], name: str) -> int:
    value = headers.get(name)
    return value if isinstance(value, int) else 0
