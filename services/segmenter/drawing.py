"""Cut out lines that people drew on a page."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from services.common.adapters.forgotten import Forgotten
from services.common.adapters.object_store import ObjectStore
from services.common.adapters.page_repository import PageFilter, PageRepository
from services.common.domain.errors import ObjectNotFoundError
from services.common.domain.events import ObjectEvent
from services.common.domain.image import FORGOTTEN
from services.common.domain.keys import page_hash
from services.common.domain.page import Line
from services.common.domain.page_document import PageDocument
from services.common.domain.page_request import Cut
from services.common.domain.provenance import Provenance
from services.segmenter import documents
from services.segmenter.cutting_again import cut_again
from services.segmenter.decoding import decode_with_text
from services.segmenter.documents import Code
from services.segmenter.line_store import LineStore
from services.segmenter.merging import Merged, PageGeometry
from services.segmenter.metrics import LINES
from services.segmenter.pictures import DecodedPage
from services.segmenter.settings import SegmenterSettings


class Drawing:
    """Replaces lines of pages by those that people drew.

    Args:
        store: Bucket of pages.
        lines: Store of images of lines.
        pages: Documents of pages.
        forgotten: Block list of images.
        settings: Limits.
    """

    def __init__(
        self,
        store: ObjectStore,
        lines: LineStore,
        pages: PageRepository,
        forgotten: Forgotten,
        settings: SegmenterSettings,
    ) -> None:
        self._store = store
        self._lines = lines
        self._pages = pages
        self._forgotten = forgotten
        self._settings = settings

    async def cut(self, event: ObjectEvent, provenance: Provenance, cut: Cut) -> Code:
        """Cut a line; outdated requests have no effect ("stale").

        The image is written before the document, as of every line; the replaced ones are deleted
        last. A redelivery does what is left.

        Raises:
            RefusedPageError, PageCostsTooMuchError: The page can't be decoded.
        """
        try:
            stored = await self._store.read(event.key, max_bytes=self._settings.max_object_bytes)
        except ObjectNotFoundError:
            return "gone"
        limits = self._settings.decoding
        pixels, layer = await asyncio.to_thread(decode_with_text, stored.content, limits)
        picture = DecodedPage(pixels, (), layer=layer)
        written: Sequence[Line] = ()
        while True:
            page = await self._pages.load(event.document_id)
            is_as_seen = page.etag == event.etag == stored.info.etag
            merged = await self._merged(page, cut, picture) if is_as_seen else None
            if merged is None:
                await self._erase_unless_used(page, written)
                return "stale"
            await self._lines.write(merged.new, picture, event, provenance)
            written = merged.new
            after = page.having(lines=merged.lines, indexed_at=datetime.now(tz=UTC))
            if await self._pages.save(page, after):
                break
        LINES.labels(state="drawn").inc()
        return await self._tidy(page, merged)

    async def _tidy(self, page: PageDocument, merged: Merged) -> Code:
        """Delete the replaced images, or the new one if its page was forgotten meanwhile."""
        sha256 = str(page.sha256)
        if await self._forgotten.has_image(sha256):
            for line in merged.new:
                await self._lines.erase(str(line.key))
            return FORGOTTEN
        copies = PageFilter(sha256=sha256, besides=page.id, is_stored=True)
        if await self._pages.count(copies, most=1):
            return "cut"  # the replaced images are those of another page, too
        if spared := await self._lines.delete(merged.gone):
            await self._pages.change(
                page.id, lambda current: documents.with_spared(current, sha256, spared)
            )
        return "cut"

    async def _merged(self, page: PageDocument, cut: Cut, picture: DecodedPage) -> Merged | None:
        """Decide about a cut; None: the page has changed."""
        if not page.is_cuttable:
            return None
        place = PageGeometry(str(page.sha256), *picture.size, page.turn)
        judged = await self._lines.judged([line for line in page.lines if line.key])
        return cut_again(page.lines, cut, place, judged=judged)

    async def _erase_unless_used(self, page: PageDocument, written: Sequence[Line]) -> None:
        """Delete images of a line that came too late, unless a page has it."""
        known = {line.key for line in page.lines}
        for line in written:
            copies = PageFilter(sha256=page_hash(line.key or ""), besides=page.id, is_stored=True)
            if line.key and line.key not in known and not await self._pages.count(copies, most=1):
                await self._lines.delete([line])
