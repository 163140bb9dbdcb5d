"""Process one delivery of the consumer.

See docs/decisions/0002-at-least-once-and-idempotent.md.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from services.common.adapters.fetched_items import FetchedItems
from services.common.adapters.forgotten import Forgotten
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.object_store import ObjectStore
from services.common.adapters.rabbitmq.retry_policy import Delivery
from services.common.adapters.synthetic_events import INFERRED, ORIGIN_HEADER
from services.common.domain.accuracy import hypothesis_of
from services.common.domain.annotation_history import Annotations
from services.common.domain.annotations import collapse
from services.common.domain.errors import (
    ForeignEventError,
    ObjectNotFoundError,
    PredictionRefusedError,
)
from services.common.domain.events import (
    EventKind,
    ObjectEvent,
    RepredictJob,
    parse_job,
    parse_notification,
)
from services.common.domain.image import FORGOTTEN, Decision, ImageDocument
from services.common.domain.keys import FETCHED, LINES
from services.common.domain.objects import ObjectInfo, ObjectTooLargeError
from services.common.domain.provenance import MOST_SOURCES, Provenance
from services.common.domain.records import Prediction, Rejection
from services.consumer import documents
from services.consumer.documents import (
    NONE_KEPT,
    Code,
    ObjectReading,
    needs_reading,
    reason_not_to,
    without_pages,
)
from services.consumer.metrics import ANNOTATED_CHARACTERS, CHARACTER_ERRORS, IMAGE_AGE_SECONDS
from services.consumer.ocr_client import Recogniser

log = structlog.stdlib.get_logger(__name__)

FETCHED_PREFIXES = (FETCHED, LINES)
"""Prefixes of the fetcher's keys, which end in the image's hash, or in a line's place."""
FORGOTTEN_DETAIL = (
    "this image is forgotten, so it was deleted again; "
    "`docreco forget KEY --allow-again` lets it be stored"
)


class Worker:
    """Turns bucket notifications into documents.

    Args:
        store: The bucket of the events.
        recogniser: The OCR API.
        images: Repository of documents.
        fetches: The fetcher's records of where objects are from.
        forgotten: Images to delete again.
        max_object_bytes: Larger objects are rejected unread.
        page_height: Pixels from which on an image is rejected as a page; 0: none is.
        on_read: Called with the document of each new image that was read.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        recogniser: Recogniser,
        images: ImageRepository,
        fetches: FetchedItems,
        forgotten: Forgotten,
        max_object_bytes: int,
        page_height: int = 0,
        on_read: Callable[[ImageDocument], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._recogniser = recogniser
        self._images = images
        self._fetches = fetches
        self._forgotten = forgotten
        self._max_object_bytes = max_object_bytes
        self._page_height = page_height
        self._on_read = on_read

    async def handle(self, delivery: Delivery) -> Code:
        """Process every record of a notification, or a job; return the code of the last.

        Raises:
            InvalidEventError, ForeignEventError: The message is not valid here.
            TransientError: One image failed; a retry may succeed.
        """
        if (job := parse_job(delivery.body)) is not None:
            return await self._predict_again(job)
        code: Code = "ignored"
        for event in parse_notification(delivery.body):
            code = await self._handle_event(
                event,
                is_last_attempt=delivery.is_last_attempt,
                is_inferred=delivery.headers.get(ORIGIN_HEADER) == INFERRED,
            )
            if code in {"predicted", "rejected"} and ORIGIN_HEADER not in delivery.headers:
                # The age of the reconciler's events is not the latency of the pipeline
                age = datetime.now(tz=UTC) - event.occurred_at
                IMAGE_AGE_SECONDS.observe(max(0.0, age.total_seconds()))
            log.info("event handled", event_name=event.name, id=event.document_id, code=code)
        return code

    async def _handle_event(
        self, event: ObjectEvent, *, is_last_attempt: bool, is_inferred: bool
    ) -> Code:
        if event.bucket != self._store.bucket:
            raise ForeignEventError(f"bucket is {event.bucket!r}, expected {self._store.bucket!r}")
        match event.kind:
            case EventKind.CREATED:
                if event.key.endswith("/") and not event.size:
                    return "folder"  # an empty folder of the console
                provenance = await self._fetches.provenance_of(
                    event, is_last_attempt=is_last_attempt
                )
                document = await self._images.load(event.document_id)
                known = [*await self._earlier(event, document), provenance]
                return await self._stored(event, document, known, is_inferred=is_inferred)
            case EventKind.REMOVED:
                return await self._removed(event, is_inferred=is_inferred)
            case EventKind.IGNORED:
                return "ignored"

    async def _earlier(self, event: ObjectEvent, document: ImageDocument) -> list[Provenance]:
        """Return the earlier sources of an object that has no document yet, or was removed.

        MinIO may lose an event when it is killed, and documents may be lost. The fetcher writes
        equal bytes of another URL to the same key, whose event does not mention the first URL.
        What a removal erased of the sources comes back; texts only do from their tombstones.
        """
        if not event.key.startswith(FETCHED_PREFIXES):
            return []
        if document.exists and document.status != "removed":
            return []
        found = await self._fetches.that_stored(
            event.key, before=event.occurred_at, limit=MOST_SOURCES
        )
        known = [item.provenance(item.finished_at) for item in found]
        return [replace(each, annotation=None) for each in known] if document.exists else known

    async def _stored(
        self,
        event: ObjectEvent,
        document: ImageDocument,
        known: Sequence[Provenance],
        *,
        is_inferred: bool,
    ) -> Code:
        """Decide about a written object, again after each conflict.

        Args:
            event: Its event.
            document: As read.
            known: Its sources, the earliest first; the last is that of the event.
            is_inferred: Whether the event was concluded from a comparison.
        """
        reading, kept = None, NONE_KEPT
        while True:
            if not await self._must_read(event, document):
                reading = None  # after a conflict: another delivery of the event was faster
            elif reading is None:
                try:
                    reading, kept = await self._read_line(event, document, known)
                except ObjectNotFoundError:
                    return [await self._gone(event, each) for each in known][-1]
            origins = [documents.provenance_of(reading, event, each) for each in known]
            code, after = _decided(document, event, origins, reading, kept)
            if await self._images.save(document, after, is_inferred=is_inferred):
                # A concurrent removal can't find the image without a document
                is_new = code in {"predicted", "rejected"}
                if not is_new or not await self._forgotten.has_image(after.sha256):
                    break
                reading = None
            document = await self._images.load(event.document_id)
        await self._erase_forgotten(code, event.key, after.etag)
        if code == "predicted" and after.prediction is not None:
            _count_errors(after.prediction, origins[-1].annotation)
            self._on_read(after)
        return code

    async def _read_line(
        self, event: ObjectEvent, document: ImageDocument, known: Sequence[Provenance]
    ) -> tuple[ObjectReading, Annotations]:
        """Read the object, rejected if it looks like a page; return its tombstones, too."""
        reading = await self._read(event.key)
        kept = await self._images.kept(event.document_id, reading.sha256)
        is_line = (
            any(each.annotation or each.page for each in known)
            or document.page is not None
            or document.annotation is not None
            or kept.current is not None
        )
        return without_pages(reading, least_height=self._page_height, is_line=is_line), kept

    async def _must_read(self, event: ObjectEvent, document: ImageDocument) -> bool:
        return needs_reading(event, document) or await self._forgotten.has_image(document.sha256)

    async def _gone(self, event: ObjectEvent, provenance: Provenance) -> Code:
        now = datetime.now(tz=UTC)
        return await self._images.change(
            event.document_id, lambda document: documents.gone(document, event, provenance, now)
        )

    async def _removed(self, event: ObjectEvent, *, is_inferred: bool) -> Code:
        if await self._store.head(event.key) is not None:
            return "stale"  # a version of it was removed, or it was stored again meanwhile
        now = datetime.now(tz=UTC)
        return await self._images.change(
            event.document_id,
            lambda document: documents.removed(document, event, now),
            is_inferred=is_inferred,
        )

    async def _predict_again(self, job: RepredictJob) -> Code:
        document = await self._images.load(job.document_id)
        reason = reason_not_to(document, job)
        if reason is not None:
            return reason
        try:
            reading = await self._read(job.key)
        except ObjectNotFoundError:
            return "gone"
        is_line = document.annotation is not None or document.page is not None
        reading = without_pages(reading, least_height=self._page_height, is_line=is_line)
        now = datetime.now(tz=UTC)
        code = await self._images.change(
            job.document_id, lambda document: documents.repredicted(document, job, reading, now)
        )
        await self._erase_forgotten(code, job.key, reading.etag)
        return code

    async def _erase_forgotten(self, code: Code, key: str, etag: str | None) -> None:
        if code == FORGOTTEN:
            await self._store.erase(key, etag=etag)

    async def _read(self, key: str) -> ObjectReading:
        """Read the object's bytes and request their prediction."""
        try:
            stored = await self._store.read(key, max_bytes=self._max_object_bytes)
        except ObjectTooLargeError as error:
            return _reading(error.info, None, Rejection(code=error.code, detail=str(error)))
        sha256 = hashlib.sha256(stored.content).hexdigest()
        if await self._forgotten.has_image(sha256):
            rejection = Rejection(code=FORGOTTEN, detail=FORGOTTEN_DETAIL)
            return _reading(stored.info, sha256, rejection)
        try:
            answer = await self._recogniser.predict(stored.content)
        except PredictionRefusedError as error:
            return _reading(stored.info, sha256, Rejection(code=error.code, detail=error.detail))
        prediction = answer.to_prediction(datetime.now(tz=UTC))
        return _reading(stored.info, sha256, prediction, (answer.width, answer.height))


def _decided(
    document: ImageDocument,
    event: ObjectEvent,
    origins: Sequence[Provenance],
    reading: ObjectReading | None,
    kept: Annotations,
) -> Decision[Code]:
    """Apply all sources of an object to its document."""
    now = datetime.now(tz=UTC)
    first, *others = origins
    code, after = documents.stored(document, event, first, reading, now, kept=kept)
    for origin in others if code != FORGOTTEN else ():
        after = documents.stored(after, event, origin, None, now).document
    return Decision(code, after)


def _reading(
    info: ObjectInfo,
    sha256: str | None,
    result: Prediction | Rejection,
    size: tuple[int, int] | tuple[None, None] = (None, None),
) -> ObjectReading:
    return ObjectReading(info.etag, info.size, info.content_type, sha256, result, *size)


def _count_errors(prediction: Prediction, annotation: str | None) -> None:
    model = (prediction.engine or "", prediction.model_version or "")
    reference = collapse(annotation or "")
    errors = hypothesis_of(prediction.text, reference=reference).errors
    CHARACTER_ERRORS.labels(*model).inc(errors)
    ANNOTATED_CHARACTERS.labels(*model).inc(len(reference))
