"""Erase what was made of pages: their lines, and the rendered pages of documents."""

from services.common.adapters.forgotten import Forgotten
from services.common.adapters.object_store import ObjectStore
from services.common.adapters.page_repository import PageFilter, PageRepository
from services.common.domain.events import ObjectEvent
from services.common.domain.image import FORGOTTEN
from services.common.domain.keys import RENDERED
from services.common.domain.page_document import PageDocument
from services.segmenter.documents import Code, PageBytes
from services.segmenter.line_store import LineStore


class Cleanup:
    """Erases what came of bytes that no page has any longer.

    Args:
        store: Bucket of pages.
        lines: Store of images of lines.
        pages: Documents of pages.
        forgotten: Block list of images.
    """

    def __init__(
        self, store: ObjectStore, lines: LineStore, pages: PageRepository, forgotten: Forgotten
    ) -> None:
        self._store = store
        self._lines = lines
        self._pages = pages
        self._forgotten = forgotten

    async def tidy(
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

    async def erase_all(self, page: PageDocument) -> None:
        """Erase what was made of a page that is removed, of all its bytes."""
        for sha256 in await self._versions(page):
            await self._erase_unless_used(sha256, besides=page.id)

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
