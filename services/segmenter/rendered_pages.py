"""Store the pages of a PDF or TIFF as images of their own."""

import asyncio

from services.common.adapters.object_store import ObjectStore
from services.common.domain.events import ObjectEvent
from services.common.domain.keys import RENDERED
from services.common.domain.page_document import PageDocument
from services.common.domain.provenance import Provenance
from services.segmenter.documents import Rendered
from services.segmenter.provenance import rendered_key, rendered_metadata
from services.segmenter.rendering import (
    RenderingLimits,
    UnreadableDocumentError,
    is_tiff,
    open_document,
)

FIRST_PAGES = 4
"""Rendered at once of a new document, so that its first lines are soon there to be read."""
FURTHER_PAGES = 20
"""Rendered at once of the rest: pages that wait, also those of others, come in between."""
PAGE_CONTENT_TYPE = "image/webp"


async def render_pages(
    store: ObjectStore,
    event: ObjectEvent,
    provenance: Provenance,
    document: tuple[bytes, str],
    limits: RenderingLimits,
    *,
    before: PageDocument,
) -> Rendered | None:
    """Store the next pages of a PDF or TIFF.

    Those that are stored already, as after a crash, are skipped. One that was rendered and is not
    there was erased: it is not rendered again.

    None: a TIFF of one page, which is an image like any other.

    Args:
        store: Bucket of pages.
        event: Of the document.
        provenance: Of the document.
        document: Its bytes and their hash.
        limits: Of the rendering.
        before: What is known of it: how far it is rendered, if of these bytes.

    Raises:
        UnreadableDocumentError, EncryptedPdfError, TooManyPagesError, PageCostsTooMuchError: It
            can't be rendered.
    """
    content, sha256 = document
    there = {info.key async for info in store.list(f"{RENDERED}{sha256}/")}
    is_same = before.sha256 == sha256
    used = (before.rendering_seconds or 0.0) if is_same else 0.0
    first = 1 + (before.rendered_so_far if is_same else 0)
    while rendered_key(sha256, first) in there:
        first += 1
    last = first - 1 + (FIRST_PAGES if first == 1 else FURTHER_PAGES)
    opening = open_document(content, limits, first=first, used=used)
    seconds = 0.0
    opened = await asyncio.to_thread(opening.__enter__)
    try:
        if opened.pages == 1 and is_tiff(content):
            return None
        last = min(last, opened.pages)
        for number in range(first, last + 1):
            page = await asyncio.to_thread(next, opened.each, None)
            if page is None:
                raise UnreadableDocumentError(f"page {number} of {opened.pages} is missing")
            seconds = page.seconds
            await store.write_once(
                rendered_key(sha256, number),
                page.content,
                content_type=PAGE_CONTENT_TYPE,
                metadata=rendered_metadata(event, provenance, opened.pages),
            )
        left = opened.pages - max(last, first - 1)
        return Rendered(opened.pages, left, round(used + seconds, 2))
    finally:
        opening.__exit__(None, None, None)
