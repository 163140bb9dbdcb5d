"""Synthetic events, for states of objects whose own event is missing.

They have the form that ``events`` parses, so that one consumer path handles both kinds. The header
``x-origin`` names their source.

**Sequencers.** MinIO's sequencer is the object's modification time in nanoseconds (measured); a
listing truncates it to milliseconds. A synthetic event must neither supersede a later real one nor
be older than the document. So its sequencer is the listed time rounded *down* (the real event of
the same write is then later, and adds the user to the document), or the document's own if that is
greater (an equal sequencer is not older). A removal has the document's own sequencer: it removes
the compared state, but no later one.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote_plus, unquote_plus

from services.common.adapters.object_store import ObjectStore
from services.common.adapters.rabbitmq.messaging import Publisher
from services.common.domain.events import sequence_order
from services.common.domain.objects import ObjectInfo
from services.common.domain.page_document import PageDocument
from services.common.domain.page_request import PageRequest

ORIGIN_HEADER = "x-origin"
INFERRED = "reconciler"
"""Value of ``x-origin``: inferred from a comparison, so it may be unintended."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def stored_notification(bucket: str, info: ObjectInfo, *, sequencer: str) -> bytes:
    """Return the body of a notification that an object was stored, with its user metadata."""
    stored: dict[str, Any] = {
        "key": quote_plus(info.key),
        "sequencer": sequencer,
        "size": info.size,
        "eTag": info.etag,
        "userMetadata": {f"X-Amz-Meta-{name}": value for name, value in info.metadata.items()},
    }
    if info.content_type is not None:
        stored["contentType"] = info.content_type
    return _body("s3:ObjectCreated:Put", bucket, stored, info.stored_at)


def removed_notification(bucket: str, key: str, *, sequencer: str, occurred_at: datetime) -> bytes:
    """Return the body of a notification that an object is gone."""
    stored = {"key": quote_plus(key), "sequencer": sequencer}
    return _body("s3:ObjectRemoved:Delete", bucket, stored, occurred_at)


def sequencer_at(time: datetime) -> str:
    """Return the sequencer that MinIO gives to an object modified at ``time``."""
    nanoseconds = (time - _EPOCH) // timedelta(microseconds=1) * 1000
    return f"{nanoseconds:X}"


def time_of(sequencer: str) -> datetime:
    """Return the modification time of a MinIO sequencer, truncated to milliseconds."""
    milliseconds = int(sequencer, 16) // 1_000_000
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:  # another store's sequencers need not be times
        return datetime.max.replace(tzinfo=UTC)


def latest(*sequencers: str | None) -> str:
    """Return the greatest of the sequencers; at least one is required."""
    return max((each for each in sequencers if each), key=sequence_order)


def _body(event_name: str, bucket: str, stored: Mapping[str, Any], time: datetime) -> bytes:
    record = {
        "eventVersion": "2.0",
        "eventSource": "docreco",
        "eventTime": time.isoformat(),
        "eventName": event_name,
        "userIdentity": {},
        "s3": {"bucket": {"name": bucket}, "object": dict(stored)},
    }
    named = f"{bucket}/{unquote_plus(stored['key'])}"
    return json.dumps({"EventName": event_name, "Key": named, "Records": [record]}).encode()


async def queue_page(
    page: PageDocument,
    request: PageRequest,
    *,
    store: ObjectStore,
    publisher: Publisher,
    queue: str,
    origin: str,
    etag: str | None = None,
) -> bool:
    """Queue a page with what is asked for; return False if its object is gone.

    Args:
        page: Its document.
        request: Of a person; an empty one asks for a run.
        store: Bucket of pages.
        publisher: Of the queue.
        queue: The segmenter's jobs.
        origin: Value of the header ``x-origin``.
        etag: Of the bytes that are meant: False if there are others; None: any.
    """
    info = await store.head(page.key)
    if info is None or etag not in {None, info.etag}:
        return False
    sequencer = page.sequencer or sequencer_at(info.stored_at)
    notification = stored_notification(store.bucket, info, sequencer=sequencer)
    body, headers = request.within(notification), {ORIGIN_HEADER: origin}
    await publisher.publish(body, queue=queue, headers=headers)
    return True
