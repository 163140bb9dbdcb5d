"""Routes of pages: their list, one with its lines, and its picture."""

from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response

from services.common.adapters.keyset import by_change, by_page_number, paginate
from services.common.adapters.page_repository import PageFilter
from services.common.domain.image_filter import PRESENT, ImageFilter
from services.common.domain.page_document import PageDocument, PageStatus
from services.common.runtime.problems import ProblemError
from services.review.access import AppState, CurrentUser, StateDep
from services.review.found_page import decode, fill_page
from services.review.page_views import view_page
from services.review.routes.pictures import ETag, picture_response
from services.review.search_limits import search_seconds

SHOWN_PAGES = 50
MOST_PAGES = 10_000
"""Of a document; the segmenter's limit is lower."""

Text = Annotated[str, Query(max_length=1200)]
router = APIRouter()


@router.get("/pages")
async def pages_page(
    state: StateDep,
    user: CurrentUser,
    *,
    status: PageStatus | None = None,
    batch: Text = "",
    document: Text = "",
    cursor: Annotated[str, Query(max_length=4000)] = "",
    wait: bool = False,
) -> Response:
    """Show pages, newest first, those of a document in their order."""
    where = PageFilter(status=status, batch=batch or None, document=document or None)
    order = by_page_number(MOST_PAGES) if document else by_change(datetime.now(tz=UTC))
    after = decode(cursor, order) if cursor else None
    read = paginate(state.page_documents, where, order, after=after, limit=SHOWN_PAGES + 1)
    found = await fill_page(read, order, size=SHOWN_PAGES, seconds=search_seconds(wait=wait))
    pages = [(page, await _lines(state, page)) for page in found.documents]
    given = {"status": status, "batch": batch, "document": document}
    this, later = (
        urlencode({name: value for name, value in (given | {"cursor": at}).items() if value})
        for at in (cursor, found.next)
    )
    context: dict[str, Any] = {"this": this, "later": later, "batch": batch, "wait": wait}
    return state.templates.render("pages", user, pages=pages, found=found, **context)


@router.get("/page-content")
async def content(state: StateDep, _: CurrentUser, id: Text, etag: ETag) -> Response:  # noqa: A002
    """Serve the picture of a page that the segmenter could read."""
    page = await _page(state, id)
    if page.status != "segmented" or page.rendered is not None:
        raise ProblemError(415, "rejected", "this page has no picture")
    return await picture_response(state, state.page_store, page.key, etag)


@router.get("/pages/{key:path}")
async def page_page(state: StateDep, user: CurrentUser, key: str) -> Response:
    """Show a page with its lines, to be annotated from top to bottom."""
    page = await _page(state, f"{state.page_store.bucket}/{key}")
    view = await view_page(page, state.images, state.store.bucket, user.name)
    return state.templates.render("page", user, page=page, view=view)


async def _page(state: AppState, page_id: str) -> PageDocument:
    page = await state.page_documents.get(page_id)
    if page is None:
        raise ProblemError(404, "page_not_found", "no such page")
    return page


async def _lines(state: AppState, page: PageDocument) -> int:
    """Count the lines of a page; those of a transcription are known by their images alone."""
    if page.ground_truth is None:
        return len(page.current)
    return await state.images.count(ImageFilter(pages=frozenset({page.id}), status=PRESENT))
