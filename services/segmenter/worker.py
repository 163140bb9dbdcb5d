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
from services.common.adapters.page_repository import PageFilter, PageRepository
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
from services.common.domain.objects import ObjectTooLargeError, StoredObject
from services.common.domain.page import RENDERED, GroundTruth, Turn, transcript_from_metadata
from services.common.domain.page_document import PageDocument
from services.common.domain.page_request import PageRequest, parse_request
from services.common.domain.provenance import Provenance
from services.common.domain.records import Rejection
from services.segmenter import documents
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
from services.segmenter.merging import Place, drawn_lines, merge, to_run
from services.segmenter.metrics import PAGE_AGE_SECONDS, observe
from services.segmenter.pictures import Picture, find_lines
from services.segmenter.provenance import check_key, part_of, rendered_key, rendered_metadata
from services.segmenter.rendering import is_document, is_tiff, open_document
from services.segmenter.settings import SegmenterSettings
from services.segmenter.text_layer import NO_TEXT, count_texts

log = structlog.stdlib.get_logger(__name__)

POSTPONED_SECONDS = 5.0
PAGE_CONTENT_TYPE = "image/webp"


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
        self._drawing = Drawing(store, lines, pages, forgotten, settings)

    async def handle(self, delivery: Delivery) -> Code:
        """Process every record of a notification; return the code of the last.

        Raises:
            InvalidEventError, ForeignEventError: The message is not a notification of the bucket.
            RefusedPageError, PageCostsTooMuchError: A page can't be decoded to cut it again.
            PostponedError: Too many images wait already.
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
        self, event: ObjectEvent, provenance: Provenance, stored: StoredObject, page: PageDocument
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
            check_key(event.document_id)
            if is_document(stored.content) and (
                pages := await self._render(event, provenance, stored.content, sha256)
            ):
                return await self._save(event, provenance, (read, Rendered(pages)))
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
        self, event: ObjectEvent, provenance: Provenance, read: PageBytes, picture: Picture
    ) -> Code:
        """Write the lines that are not stored yet, then the document of their page."""
        version, sha256, turn = self._detector.version, str(read.sha256), picture.turn
        made_of = f"{sha256} {version}" + (f" {turn}" if turn else "")
        run = hashlib.sha256(made_of.encode()).hexdigest()[:16]
        while True:
            page = await self._pages.load(event.document_id)
            before = documents.lines_before(page, sha256, turn)
            judged = await self._lines.judged(before)
            place = Place(sha256, *picture.size, turn)
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
        return await self._tidy(event, page, after, code, read)

    async def _save(
        self, event: ObjectEvent, provenance: Provenance, read: tuple[PageBytes, Result] | None
    ) -> Code:
        now = datetime.now(tz=UTC)
        while True:
            page = await self._pages.load(event.document_id)
            code, after = documents.stored(page, event, provenance, read, now)
            if await self._pages.save(page, after):
                break
        return code if read is None else await self._tidy(event, page, after, code, read[0])

    async def _tidy(
        self,
        event: ObjectEvent,
        page: PageDocument,
        after: PageDocument,
        code: Code,
        read: PageBytes,
    ) -> Code:
        """Erase what came of bytes that the page has no longer, or that were forgotten meanwhile.

        Args:
            event: Of the page.
            page: Its document before it was saved.
            after: And as it was saved.
            code: Outcome so far.
            read: The bytes of the event.
        """
        if read.sha256 and await self._forgotten.has_image(read.sha256):
            await self._store.erase(event.key, etag=read.etag)
            await self._erase_unless_used(read.sha256, besides=page.id)
            return FORGOTTEN
        is_removed = after.status == "removed"
        outdated = read.sha256 if code == "stale" else page.sha256
        if outdated and (is_removed or outdated != after.sha256):
            await self._erase_unless_used(outdated, keeps_annotated=not is_removed)
        return code

    async def _render(
        self, event: ObjectEvent, provenance: Provenance, content: bytes, sha256: str
    ) -> int:
        """Store the pages of a PDF or TIFF that are not stored yet; return how many it has.

        0: a TIFF of one page, which is an image like any other.
        """
        there = {info.key async for info in self._store.list(f"{RENDERED}{sha256}/")}
        first = 1
        while rendered_key(sha256, first) in there:
            first += 1
        opening = open_document(content, self._settings.rendering, first=first)
        document = await asyncio.to_thread(opening.__enter__)
        try:
            if document.pages == 1 and is_tiff(content):
                return 0
            while page := await asyncio.to_thread(next, document.each, None):
                await self._store.write_once(
                    rendered_key(sha256, page.number),
                    page.content,
                    content_type=PAGE_CONTENT_TYPE,
                    metadata=rendered_metadata(event, provenance, document.pages),
                )
            return document.pages
        finally:
            opening.__exit__(None, None, None)

    async def _removed(self, event: ObjectEvent) -> Code:
        """Remove the lines of a page, or the rendered pages of a document."""
        page = await self._pages.load(event.document_id)
        if page.exists and not event.is_older_than(page.sequencer):
            for sha256 in await self._versions(page):
                await self._erase_unless_used(sha256, besides=page.id)
        now = datetime.now(tz=UTC)
        return await self._pages.change(
            event.document_id, lambda current: documents.removed(current, event, now)
        )

    async def _versions(self, page: PageDocument) -> list[str]:
        """Return the hashes of the bytes that a page has, or had if annotated lines remain."""
        parts = self._pages.find(PageFilter(document=page.key), fields={"document": 1})
        hashes = {part.document.sha256 async for part in parts if part.document}
        hashes |= await self._lines.hashes(page.id)
        return sorted(hashes | ({page.sha256} if page.sha256 else set()))

    async def _erase_unless_used(
        self, sha256: str, *, besides: str | None = None, keeps_annotated: bool = False
    ) -> None:
        """Delete the lines and rendered pages of bytes without a page.

        Whether one has them is looked up before each deletion, as pages come at any time.

        Args:
            sha256: Of the bytes.
            besides: ``_id`` of a page that does not count.
            keeps_annotated: Keep annotated lines, and the rendered pages that have some.
        """
        users = PageFilter(sha256=sha256, besides=besides, is_stored=True, is_transcribed=False)
        for key in await self._lines.keys(sha256, pages_bucket=self._store.bucket):
            if await self._pages.count(users, most=1):
                return
            if not keeps_annotated or not await self._lines.are_annotated([key]):
                await self._lines.erase(key)
        async for info in self._store.list(f"{RENDERED}{sha256}/"):
            if await self._pages.count(users, most=1):
                return
            part = await self._pages.load(f"{self._store.bucket}/{info.key}")
            keys = [line.key for line in part.lines if line.key]
            if not keeps_annotated or not await self._lines.are_annotated(keys):
                await self._store.delete(info.key)
