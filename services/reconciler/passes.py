"""Make passes over the buckets: connect to the servers, and leave out what is parked."""

from contextlib import AsyncExitStack
from typing import Unpack

import structlog

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Database
from services.common.adapters.object_store import ObjectStore, sibling
from services.common.adapters.page_repository import PageRepository
from services.common.adapters.rabbitmq.messaging import open_publisher, open_queue
from services.common.adapters.rabbitmq.retry_policy import OCR_QUEUES, PAGE_QUEUES, Queues
from services.common.adapters.repository import InvalidDocumentError
from services.common.domain.errors import PipelineError
from services.common.domain.events import EventKind, ObjectEvent, parse_notification
from services.common.runtime.settings import AmqpSettings
from services.reconciler.settings import ReconcilerSettings
from services.reconciler.walk import Documents, Parked, PassOptions, PassReport, Reconciler

log = structlog.stdlib.get_logger(__name__)

MOST_PARKED = 200_000
"""Limit of remembered parked messages (60 MB); with more, a pass only counts."""


async def compare_buckets(
    settings: ReconcilerSettings,
    *,
    store: ObjectStore,
    pages_bucket: str,
    database: Database,
    amqp: AmqpSettings,
    is_dry_run: bool = False,
    **options: Unpack[PassOptions],
) -> PassReport:
    """Make a pass of the bucket of images and one of the bucket of pages.

    Raises:
        UnavailableError: A server is missing; what was queued until then is queued.
        InvalidDocumentError: A bucket has a foreign document; the other one was compared.
    """
    work: list[tuple[ObjectStore, Documents, Queues]] = [
        (sibling(store, pages_bucket), PageRepository(database.pages), PAGE_QUEUES),
        (store, ImageRepository(database.images), OCR_QUEUES),
    ]
    done, invalid = PassReport(), None
    for bucket, documents, queues in work:
        try:
            done += await make_pass(
                settings,
                store=bucket,
                images=documents,
                amqp=amqp,
                queues=queues,
                is_dry_run=is_dry_run,
                **options,
            )
        except InvalidDocumentError as error:
            invalid = error
    if invalid:
        raise invalid
    return done


async def make_pass(
    settings: ReconcilerSettings,
    *,
    store: ObjectStore,
    images: Documents,
    amqp: AmqpSettings,
    queues: Queues,
    is_dry_run: bool = False,
    **options: Unpack[PassOptions],
) -> PassReport:
    """Connect to RabbitMQ and run one pass.

    Raises:
        UnavailableError: A server does not answer; events queued so far remain.
    """
    parked = await parked_notifications(amqp, queues)
    if is_blind := len(parked) >= MOST_PARKED:
        # further parked events would be queued and parked again in every pass
        log.warning("too many parked messages, nothing is queued", parked=len(parked))
    async with AsyncExitStack() as stack:
        publisher = None
        if not (is_dry_run or is_blind):
            publisher = await stack.enter_async_context(open_publisher(amqp))
        reconciler = Reconciler(
            store=store,
            images=images,
            publisher=publisher,
            queues=queues,
            settings=settings,
            **options,
        )
        return await reconciler.run(parked)


async def parked_notifications(settings: AmqpSettings, queues: Queues) -> Parked:
    """Return the parked notifications; the messages stay in the queue."""
    parked: Parked = set()
    async with open_queue(settings, queues.parked) as messages:
        async for message in messages:
            if len(parked) >= MOST_PARKED:
                break
            parked.update(_identity(event) for event in _events(message.body))
    return parked


def _events(body: bytes) -> list[ObjectEvent]:
    try:
        return parse_notification(body)
    except PipelineError:
        return []  # parked as an invalid event


def _identity(event: ObjectEvent) -> tuple[str, str | None]:
    return event.document_id, event.etag if event.kind is EventKind.CREATED else None
