"""Process one delivery of the segmenter: a page, a document of several, or a removal.

Lines are written first, then the document of their page: a crash between the two is repaired by the
redelivery, as equal bytes and an equal detector give equal keys (docs/pages.md).
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog

from services.common.adapters.fetched_items import FetchedItems
from services.common.adapters.forgotten import Forgotten
from services.common.adapters.object_store import ObjectStore
from services.common.adapters.page_repository import PageRepository
from services.common.adapters.rabbitmq.retry_policy import Delivery
from services.common.adapters.synthetic_events import ORIGIN_HEADER
from services.common.domain.errors import (
    ForeignEventError,
    ObjectNotFoundError,
    PermanentError,
    PostponedError,
)
from services.common.domain.events import EventKind, ObjectEvent, parse_notification
from services.common.domain.image import FORGOTTEN
from services.common.domain.objects import LoadedObject, ObjectTooLargeError
from services.common.domain.page import GroundTruth, Turn, transcript_from_metadata
from services.common.domain.page_document import PageDocument
from services.common.domain.page_request import PageRequest, parse_request
from services.common.domain.provenance import Provenance
from services.common.domain.records import Rejection
from services.segmenter import documents
from services.segmenter.cleanup import Cleanup
from services.segmenter.decoding import decode_page
from services.segmenter.detection import Detector
from services.segmenter.documents import (
    Code,
    PageBytes,
    Rendered,
    Result,
    Segmentation,
    Transcribed,
    is_up_to_date,
)
from services.segmenter.drawing import Drawing
from services.segmenter.line_store import LineStore
from services.segmenter.merging import PageGeometry, drawn_lines, merge, to_run
from services.segmenter.metrics import PAGE_AGE_SECONDS, observe
from services.segmenter.pictures import DecodedPage, find_lines
from services.segmenter.provenance import check_key, group_of, part_of
from services.segmenter.rendered_pages import render_pages
from services.segmenter.rendering import is_document
from services.segmenter.settings import SegmenterSettings
from services.segmenter.text_layer import NO_TEXT, count_texts

log = structlog.stdlib.get_logger(__name__)

POSTPONED_SECONDS = 5.0


class Worker:
    """Segments pages.

    Args:
        store: Bucket of pages.
        lines: Store of images of lines.
        pages: Documents of pages.
        items: The fetcher's items, with provenance too long for object metadata.
        forgotten: Block list of images.
        detector: Finds lines.
        waiting: Returns the number of images that wait for the OCR API.
        settings: Limits.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        lines: LineStore,
        pages: PageRepository,
        items: FetchedItems,
        forgotten: Forgotten,
        detector: Detector,
        waiting: Callable[[], Awaitable[int]],
        settings: SegmenterSettings,
    ) -> None:
        self._store = store
        self._lines = lines
        self._pages = pages
        self._items = items
        self._forgotten = forgotten
        self._detector = detector
        self._waiting = waiting
        self._settings = settings
        self._cleanup = Cleanup(store, lines, pages, forgotten)
        self._drawing = Drawing(store, lines, pages, forgotten, settings)

    async def handle(self, delivery: Delivery) -> Code:
        """Process every record of a notification; return the code of the last.

        Raises:
            InvalidEventError, ForeignEventError: The message is not a notification of the bucket.
            RefusedPageError, PageCostsTooMuchError: A page can't be decoded to cut it again.
            PostponedError: Too many images wait already, or pages are left to render.
            TransientError: It may succeed later.
            UnavailableError: A server does not answer.
        """
        code: Code = "ignored"
        request = parse_request(delivery.body) or PageRequest()
        for event in parse_notification(delivery.body):
            if event.bucket != self._store.bucket:
                raise ForeignEventError(
                    f"bucket is {event.bucket!r}, expected {self._store.bucket!r}"
                )
            match event.kind:
                case EventKind.CREATED:
                    code = await self._created(event, request, delivery)
                    if code == "segmented" and ORIGIN_HEADER not in delivery.headers:
                        age = datetime.now(tz=UTC) - event.occurred_at
                        PAGE_AGE_SECONDS.observe(max(0.0, age.total_seconds()))
                case EventKind.REMOVED:
                    code = await self._removed(event)
                case EventKind.IGNORED:
                    code = "ignored"
            log.info("handled", event_name=event.name, id=event.document_id, code=code)
        return code

    async def _created(self, event: ObjectEvent, request: PageRequest, delivery: Delivery) -> Code:
        if event.key.endswith("/") and not event.size:
            return "folder"  # an empty folder of the console
        provenance = await self._items.provenance_of(
            event, is_last_attempt=delivery.is_last_attempt
        )
        if request.cut is not None:
            return await self._drawing.cut(event, provenance, request.cut)
        if request.turn is not None:
            await self._pages.change(
                event.document_id,
                lambda current: (None, documents.turned(current, event, request)),
            )
        page = await self._pages.load(event.document_id)
        is_known = is_up_to_date(page, event, self._detector.version)
        if event.is_older_than(page.sequencer) or is_known:
            return await self._save(event, provenance, None)
        if await self._waiting() >= self._settings.max_waiting:
            raise PostponedError("many images wait for the OCR API", seconds=POSTPONED_SECONDS)
        try:
            stored = await self._store.read(event.key, max_bytes=self._settings.max_object_bytes)
        except ObjectNotFoundError:
            return "gone"
        except ObjectTooLargeError as error:
            too_large = PageBytes(error.info.etag, error.info.size, error.info.content_type, None)
            rejection = Rejection(code=error.code, detail=str(error))
            return await self._save(event, provenance, (too_large, rejection))
        return await self._read(event, provenance, stored, page)

    async def _read(
        self, event: ObjectEvent, provenance: Provenance, stored: LoadedObject, page: PageDocument
    ) -> Code:
        """Segment a page, or render a document; refused ones are rejected with a code."""
        info = stored.info
        sha256 = (await asyncio.to_thread(hashlib.sha256, stored.content)).hexdigest()
        if await self._forgotten.has_image(sha256):
            await self._store.erase(event.key, etag=info.etag)
            return FORGOTTEN
        read = PageBytes(info.etag, info.size, info.content_type, sha256)
        turn: Turn = page.turn if page.sha256 == sha256 else 0
        try:
            check_key(event.document_id, group_of(event, provenance))
            if is_document(stored.content) and (
                rendered := await render_pages(
                    self._store,
                    event,
                    provenance,
                    (stored.content, sha256),
                    self._settings.rendering,
                    before=page,
                )
            ):
                return await self._rendered(event, provenance, (read, rendered))
            if truth := transcript_from_metadata(event.key, event.metadata):
                return await self._transcribed(event, provenance, (read, stored.content), truth)
            picture = await asyncio.to_thread(
                find_lines,
                stored.content,
                self._detector,
                limits=self._settings.decoding,
                max_lines=self._settings.max_lines,
                turn=turn,
                may_be_blank=page.sha256 == sha256 and bool(drawn_lines(page.lines)),
            )
        except PermanentError as error:
            rejection = Rejection(code=error.code, detail=str(error))
            return await self._save(event, provenance, (read, rejection))
        return await self._segment(event, provenance, read, picture)

    async def _rendered(
        self, event: ObjectEvent, provenance: Provenance, read: tuple[PageBytes, Rendered]
    ) -> Code:
        """Record a document of which pages are rendered.

        Raises:
            PostponedError: Pages are left.
        """
        code, left = await self._save(event, provenance, read), read[1].left
        if code == "rendered" and left:
            raise PostponedError(f"{left} pages are left to render", seconds=POSTPONED_SECONDS)
        return code

    async def _transcribed(
        self,
        event: ObjectEvent,
        provenance: Provenance,
        stored: tuple[PageBytes, bytes],
        transcript: GroundTruth,
    ) -> Code:
        """Record a page whose lines are cut by its transcription.

        Raises:
            RefusedPageError, PageCostsTooMuchError: It can't be decoded.
        """
        read, content = stored
        pixels = await asyncio.to_thread(decode_page, content, self._settings.decoding)
        height, width = pixels.shape[:2]
        details = provenance.details
        truth = transcript.having(licence=details.licence, by=provenance.by)
        return await self._save(event, provenance, (read, Transcribed(width, height, truth)))

    async def _segment(
        self, event: ObjectEvent, provenance: Provenance, read: PageBytes, picture: DecodedPage
    ) -> Code:
        """Write the lines that are not stored yet, then the document of their page."""
        version, sha256, turn = self._detector.version, str(read.sha256), picture.turn
        made_of = f"{sha256} {version}" + (f" {turn}" if turn else "")
        run = hashlib.sha256(made_of.encode()).hexdigest()[:16]
        while True:
            page = await self._pages.load(event.document_id)
            before = documents.lines_before(page, sha256, turn)
            judged = await self._lines.judged(before)
            place = PageGeometry(sha256, *picture.size, turn)
            merged = await asyncio.to_thread(
                merge, before, picture.found, place, run=run, judged=judged
            )
            started = time.monotonic()
            await self._lines.write(merged.new, picture, event, provenance)
            seconds = {**picture.seconds, "cut": time.monotonic() - started}
            ms = 1000 * sum(seconds.values())
            made = to_run(run, self._detector.name, version, merged, ms, turn=turn)
            layer = picture.layer if part_of(event) else NO_TEXT
            texts = count_texts(layer, (line.quad for line in merged.lines))
            result = Segmentation(*picture.size, merged, made, texts)
            now = datetime.now(tz=UTC)
            code, after = documents.stored(page, event, provenance, (read, result), now)
            if await self._pages.save(page, after):
                break
        if code == "segmented":
            there = await self._lines.keys(sha256)  # another page's removal may have deleted some
            missing = [line for line in after.lines if line.key and line.key not in there]
            await self._lines.write(missing, picture, event, provenance)
            if spared := await self._lines.delete(merged.gone):
                await self._pages.change(
                    page.id, lambda current: documents.with_spared(current, sha256, spared)
                )
            observe(merged, seconds)
        return await self._cleanup.tidy(event, page, after, code, read)

    async def _save(
        self, event: ObjectEvent, provenance: Provenance, read: tuple[PageBytes, Result] | None
    ) -> Code:
        now = datetime.now(tz=UTC)
        while True:
            page = await self._pages.load(event.document_id)
            code, after = documents.stored(page, event, provenance, read, now)
            if await self._pages.save(page, after):
                break
        return code if read is None else await self._cleanup.tidy(event, page, after, code, read[0])

    async def _removed(self, event: ObjectEvent) -> Code:
        """Remove the lines of a page, or the rendered pages of a document, if it is gone."""
        if await self._store.head(event.key) is not None:
            return "stale"  # a version of it was removed, or it was stored again meanwhile
        page = await self._pages.load(event.document_id)
        if page.exists and not event.is_older_than(page.sequencer):
            await self._cleanup.erase_all(page)
        now = datetime.now(tz=UTC)
        return await self._pages.change(
            event.document_id, lambda current: documents.removed(current, event, now)
        )
