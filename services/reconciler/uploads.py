"""Queue people's uploads at once.

MinIO sends the events that it has stored every three seconds. It also streams events to clients
that listen, without keeping them. Each upload in the stream is queued here; MinIO's own event of
the same write follows, and is a duplicate.

See docs/decisions/0053-uploads-at-once.md.
"""

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import structlog
from minio.credentials.credentials import Credentials
from minio.signer import presign_v4

from services.common.adapters.rabbitmq.messaging import Publisher, open_publisher
from services.common.adapters.rabbitmq.retry_policy import OCR_QUEUES
from services.common.domain.errors import ObjectStoreUnavailableError, PipelineError
from services.common.domain.events import CREATED_EVENTS
from services.common.domain.keys import COLLECTED, FETCHED, LINES
from services.common.runtime.settings import AmqpSettings, S3Settings

log = structlog.stdlib.get_logger(__name__)

SERVICES_PREFIXES = (FETCHED, COLLECTED, LINES)
"""Key prefixes of objects that services write in large numbers, and no person waits for."""
LISTEN_SECONDS = 0.4
"""Length of a stream, at whose end MinIO sends what it has."""
OVERLAP_SECONDS = 0.05
"""Of a stream and the next one, so that nothing happens between them."""
MOST_WAITING = 100
"""Length of the queue from which on an earlier event would not be read earlier."""
UNEXPECTED = (ValueError, LookupError, TypeError, AttributeError)
"""Errors that the answer of another store may lead to; the search for lost images goes on."""
_TIMEOUT_SECONDS = 10.0
_SIGNED_SECONDS = 60


async def queue_uploads(
    s3: S3Settings, amqp: AmqpSettings, *, queue: str = OCR_QUEUES.work
) -> bool:
    """Listen to the bucket until a server fails; return False then."""
    try:
        async with open_publisher(amqp) as publisher, asyncio.TaskGroup() as streams:
            while True:
                streams.create_task(_queue_heard(s3, publisher, queue))
                await asyncio.sleep(LISTEN_SECONDS)
    except* (PipelineError, OSError, *UNEXPECTED) as errors:
        error = errors.exceptions[0]
        log.warning("not listening to uploads", error=f"{type(error).__name__}: {error}"[:300])
    return False


async def _queue_heard(s3: S3Settings, publisher: Publisher, queue: str) -> None:
    """Listen for some time, and queue the uploads."""
    for body in notifications(await listen(s3)):
        if await publisher.depth(queue) < MOST_WAITING:
            await publisher.publish(body, queue=queue)


def notifications(answer: bytes) -> Iterator[bytes]:
    """Yield the notification of each upload of a person in an answer of the store.

    Raises:
        ObjectStoreUnavailableError: The store refuses.
        ValueError: A line is not JSON.
    """
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.partition(b"\r\n")[0].decode(errors="replace")
    if status.split()[1:2] != ["200"]:
        raise ObjectStoreUnavailableError(f"the store answered {status!r} to a request to listen")
    for line in body.splitlines():
        for record in json.loads(line).get("Records") or () if line.strip() else ():
            stored: dict[str, Any] = record["s3"]["object"]
            if not stored["key"].startswith(SERVICES_PREFIXES):
                stored["key"] = quote_plus(stored["key"])  # as in a notification
                yield json.dumps({"Records": [record]}).encode()


async def listen(s3: S3Settings) -> bytes:
    """Return the store's answer: events, one JSON document a line.

    MinIO's last versions send nothing of a stream before its end, or before there are some
    kilobytes. It ends when this side of the connection does.
    """
    query = urlencode([("events", each) for each in CREATED_EVENTS])  # signed in this order
    url = presign_v4(
        method="GET",
        url=urlsplit(f"{str(s3.endpoint_url).rstrip('/')}/{s3.bucket}?{query}"),
        region=s3.region,
        credentials=Credentials(s3.access_key_id, s3.secret_access_key.get_secret_value()),
        date=datetime.now(tz=UTC),
        expires=_SIGNED_SECONDS,
    )
    async with asyncio.timeout(_TIMEOUT_SECONDS):
        reader, writer = await asyncio.open_connection(url.hostname, url.port or 80)
        with closing(writer):
            # an answer of HTTP/1.0 is not in chunks
            writer.write(
                f"GET {url.path}?{url.query} HTTP/1.0\r\nHost: {url.netloc}\r\n\r\n".encode()
            )
            await asyncio.sleep(LISTEN_SECONDS + OVERLAP_SECONDS)
            writer.write_eof()
            return await reader.read()
