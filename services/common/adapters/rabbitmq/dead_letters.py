"""Dead-letter ("parking") queues: list, replay or drop their messages."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from services.common.adapters.rabbitmq.messaging import (
    PeekedMessage,
    Publisher,
    open_publisher,
    open_queue,
)
from services.common.adapters.rabbitmq.retry_policy import (
    ATTEMPT_HEADER,
    CODE_HEADER,
    COPIES_HEADER,
    DUE_HEADER,
    FIRST_FAILURE_HEADER,
    PARKED_AT_HEADER,
    POSTPONED_HEADER,
    REASON_HEADER,
    RENEWALS_HEADER,
    Queues,
    own_headers,
)
from services.common.domain.redaction import hide_secrets
from services.common.runtime.settings import AmqpSettings

REPLAYS_HEADER = "x-replays"
REPLAYED_AT_HEADER = "x-replayed-at"
PREVIOUS_CODE_HEADER = "x-previous-code"
PREVIOUS_REASON_HEADER = "x-previous-reason"
DELIVERY_LIMIT = "delivery_limit"
"""Code of a message that RabbitMQ parked at its delivery limit, as it killed its consumers."""
LONGEST_SUBJECT = 300


@dataclass(frozen=True)
class ParkedMessage:
    """A parked message, for display."""

    id: str
    """Short and stable."""
    code: str
    reason: str
    subject: str
    """Its subject: a document's ``_id``, a URL, or empty."""
    parked_at: datetime | None
    first_failure: str | None
    attempts: int
    replays: int
    headers: dict[str, Any]
    body: bytes


Wanted = Callable[[ParkedMessage], bool]


def parked_message(held: PeekedMessage) -> ParkedMessage:
    """Parse a message parked by a consumer or by RabbitMQ."""
    headers = dict(held.headers)
    code, reason, parked_at = _verdict(headers)
    # Headers that RabbitMQ changes on redelivery are not part of the identity
    identity = sha256(held.body + str(parked_at).encode()).hexdigest()[:16]
    return ParkedMessage(
        id=identity,
        code=code,
        reason=reason,
        subject=_subject(held.body)[:LONGEST_SUBJECT],
        parked_at=parked_at,
        first_failure=_text(headers.get(FIRST_FAILURE_HEADER)),
        attempts=_number(headers.get(ATTEMPT_HEADER), 1),
        replays=_number(headers.get(REPLAYS_HEADER), 0),
        headers=headers,
        body=held.body,
    )


async def peek(
    settings: AmqpSettings, queues: Queues, wanted: Wanted, *, limit: int = 0
) -> list[ParkedMessage]:
    """Return matching parked messages, oldest first (``limit`` 0: no limit)."""
    async with _parked(settings, queues, wanted, limit) as messages:
        return [message async for _, message in messages]


async def replay(
    settings: AmqpSettings, queues: Queues, wanted: Wanted, *, limit: int = 0
) -> list[ParkedMessage]:
    """Move parked messages back to the work queue and return them.

    Each is confirmed there before it leaves the parking queue: a crash in between duplicates it,
    but never loses it.
    """
    done = []
    async with (
        open_publisher(settings) as publisher,
        _parked(settings, queues, wanted, limit) as messages,
    ):
        async for held, message in messages:
            await _replay_one(publisher, queues, message)
            await held.drop()
            done.append(message)
    return done


async def drop(
    settings: AmqpSettings, queues: Queues, wanted: Wanted, *, limit: int = 0
) -> list[ParkedMessage]:
    """Delete parked messages and return them."""
    done = []
    async with _parked(settings, queues, wanted, limit) as messages:
        async for held, message in messages:
            await held.drop()
            done.append(message)
    return done


@asynccontextmanager
async def _parked(
    settings: AmqpSettings, queues: Queues, wanted: Wanted, limit: int
) -> AsyncIterator[AsyncGenerator[tuple[PeekedMessage, ParkedMessage], None]]:
    async with open_queue(settings, queues.parked) as held_messages:

        async def chosen() -> AsyncGenerator[tuple[PeekedMessage, ParkedMessage], None]:
            count = 0
            async for held in held_messages:
                message = parked_message(held)
                if wanted(message):
                    yield held, message
                    count += 1
                    if count == limit:
                        return

        yield chosen()


async def _replay_one(publisher: Publisher, queues: Queues, message: ParkedMessage) -> None:
    headers = _replay_headers(message.headers, code=message.code, reason=message.reason)
    await publisher.publish(
        message.body, queue=queues.work, headers=headers, exchange=queues.exchange
    )


def _replay_headers(headers: Mapping[str, Any], *, code: str, reason: str) -> dict[str, Any]:
    """Return the headers of a replayed message.

    It starts at the first attempt; the time of the first failure, the reason of parking and the
    number of replays are kept.
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


def _verdict(headers: dict[str, Any]) -> tuple[str, str, datetime | None]:
    """Return code, reason and time of parking, not of an earlier retry."""
    if (parked_at := _time(headers.get(PARKED_AT_HEADER))) is not None:
        code = _text(headers.get(CODE_HEADER)) or "unknown"
        return code, _text(headers.get(REASON_HEADER)) or "", parked_at
    deaths = headers.get("x-death")
    death = deaths[0] if isinstance(deaths, list) and deaths else None
    if not isinstance(death, dict) or death.get("reason") != DELIVERY_LIMIT:
        return "unknown", "parked by an unknown program", None
    last = _text(headers.get(REASON_HEADER))
    came = f"returned to {death.get('queue')} too often: its consumers died or lost the connection"
    reason = f"{came}; before that: {last}" if last else came
    return DELIVERY_LIMIT, reason, _time(death.get("time"))


def _subject(body: bytes) -> str:
    """Return the subject named in a body, without validating the rest."""
    try:
        content = json.loads(body)
    except ValueError:
        return ""
    if not isinstance(content, dict):
        return ""
    job = content.get("repredict")
    if isinstance(job, dict):
        return str(job.get("document_id", ""))
    url = hide_secrets(str(content.get("url") or ""))
    return str(content.get("Key") or url or content.get("fetch_id") or "")


def _time(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object, default: int) -> int:
    return value if isinstance(value, int) else default
