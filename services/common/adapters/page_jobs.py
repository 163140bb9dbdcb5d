"""Queue a page for the segmenter, as if its object had just been stored."""

from services.common.adapters.object_store import ObjectStore
from services.common.adapters.rabbitmq.messaging import Publisher
from services.common.adapters.synthetic_events import (
    ORIGIN_HEADER,
    sequencer_at,
    stored_notification,
)
from services.common.domain.page_document import PageDocument
from services.common.domain.page_request import PageRequest


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
