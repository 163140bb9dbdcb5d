"""Routes by which people ask the segmenter to cut a line again, or to turn a page.

The segmenter alone writes pages and lines: docs/decisions/0049-people-cut-lines-again.md.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import get_args
from urllib.parse import quote

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse, RedirectResponse
from starlette.datastructures import FormData

from services.common.adapters.rabbitmq.messaging import open_publisher
from services.common.adapters.synthetic_events import queue_page
from services.common.domain.line_images import UncuttableLineError
from services.common.domain.page import Turn, line_id
from services.common.domain.page_document import PageDocument
from services.common.domain.page_request import (
    Conflict,
    Cut,
    PageRequest,
    drawn_quad,
    replaced_lines,
)
from services.common.domain.texts import Text
from services.common.runtime.periodic import polled
from services.common.runtime.problems import ProblemError
from services.review.access import AppState, CurrentUser, StateDep, VerifiedForm, text_of

WAIT_SECONDS = 10.0
"""For the segmenter; afterwards the person is told that it is queued."""
DONE = Text("The line is cut again.")
QUEUED = Text(
    "It is queued: the line is cut when the segmenter has the time. Reload the page later."
)
CHANGED = Text("The page has changed since you opened it; nothing was cut. Reload the page.")
TAKEN = Text("There is a line in just this place; nothing was cut.")
TOO_SMALL = Text("The box is too small, or not on the page; nothing was cut.")
ORIGIN = "review"

router = APIRouter()


@router.post("/pages/cut")
async def cut(state: StateDep, user: CurrentUser, form: VerifiedForm) -> Response:
    """Ask for a line as a person drew it; answer with a sentence for them."""
    page = await _page(state, form)
    size = (page.width or 0, page.height or 0)
    try:
        points = [int(each) for each in text_of(form, "points").split(",")]
        quad = drawn_quad(points, *size)
    except (ValueError, UncuttableLineError):
        return _answer(state, TOO_SMALL, 422)
    line, name = text_of(form, "line") or None, line_id(quad, *size)
    drawn = Cut(quad=quad, line=line, by=user.name, at=datetime.now(tz=UTC))
    if (refusal := _refusal(page, drawn, name)) is not None:
        return _answer(state, refusal, 409)
    await _ask(state, page, PageRequest(cut=drawn))

    def is_done(now: PageDocument) -> bool:
        return any(
            each.id == name and each.is_drawn_by(user.name, drawn.at) for each in now.current
        )

    def is_settled(now: PageDocument) -> bool:
        return is_done(now) or now.etag != page.etag or bool(_refusal(now, drawn, name))

    now = await _wait(state, page, is_settled)
    if is_done(now):
        return _answer(state, DONE, 200)
    if is_settled(now):
        return _answer(state, _refusal(now, drawn, name) or CHANGED, 409)
    return _answer(state, QUEUED, 202)


@router.post("/pages/turn")
async def turn(state: StateDep, _: CurrentUser, form: VerifiedForm) -> Response:
    """Ask for a turned page, and show it."""
    page = await _page(state, form)
    known = {str(each): each for each in get_args(Turn)}
    wanted: Turn | None = known.get(text_of(form, "turn"))
    if wanted is None:
        raise ProblemError(422, "invalid_request", "a page is turned by 0, 90, 180 or 270 degrees")
    await _ask(state, page, PageRequest(turn=wanted, at=datetime.now(tz=UTC)))
    await _wait(state, page, lambda now: now.turn == wanted and now.indexed_at != page.indexed_at)
    return RedirectResponse(f"/pages/{quote(page.key)}", status_code=303)


def _answer(state: AppState, said: Text, status: int) -> Response:
    return PlainTextResponse(state.templates.translate(said), status_code=status)


async def _page(state: AppState, form: FormData) -> PageDocument:
    """Return the page of a form, which must be as the person saw it, and cut by the segmenter."""
    page = await state.page_documents.get(text_of(form, "id"))
    if page is None or page.status == "removed":
        raise ProblemError(404, "page_not_found", "no such page")
    if not page.is_detected:
        raise ProblemError(422, "invalid_request", "the segmenter does not cut this page")
    if page.etag != text_of(form, "etag"):
        raise ProblemError(409, "changed", "the page was replaced")
    return page


def _refusal(page: PageDocument, cut: Cut, name: str) -> Text | None:
    """Say why a line can't be cut; None: it can. The segmenter drops those requests.

    Args:
        page: As it is now.
        cut: The request.
        name: ``id`` of the new line.
    """
    if not page.is_cuttable:
        return CHANGED
    conflict = replaced_lines(page.lines, cut, name)
    if not isinstance(conflict, Conflict):
        return None
    if conflict.is_taken:
        return TAKEN
    if conflict.by is None:
        return CHANGED
    return Text(
        "%(name)s has cut this line again meanwhile, and theirs is kept.", {"name": conflict.by}
    )


async def _ask(state: AppState, page: PageDocument, request: PageRequest) -> None:
    """Queue a request for the segmenter."""
    async with open_publisher(state.amqp) as publisher:
        is_queued = await queue_page(
            page,
            request,
            store=state.page_store,
            publisher=publisher,
            queue=state.page_queues.work,
            origin=ORIGIN,
            etag=page.etag,
        )
    if not is_queued:
        raise ProblemError(409, "changed", "the page was removed or replaced")


async def _wait(
    state: AppState, page: PageDocument, is_done: Callable[[PageDocument], bool]
) -> PageDocument:
    """Return a page's document once it is as wanted, or as it is when the time is over."""
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    return await polled(lambda: state.page_documents.load(page.id), is_done, deadline=deadline)
