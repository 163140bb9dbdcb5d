"""Routes of the queue."""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field
from starlette.datastructures import FormData

from services.common.domain.annotations import (
    AnnotationOutcome,
    UnacceptableAnnotationError,
    as_typed,
    collapse,
)
from services.common.domain.records import Quality
from services.common.domain.texts import Text, text_of_error
from services.common.runtime.problems import ProblemError
from services.quality.suspects import SENTENCES
from services.review.access import AppState, CurrentUser, StateDep, VerifiedForm, shown_in, text_of
from services.review.found_page import decode, encode
from services.review.gallery import GalleryForm
from services.review.offered_texts import offered_texts
from services.review.quality import choices
from services.review.queue import MOST_LEFT, Task
from services.review.queue_filter import Mode, QueueFilter, sort_keys
from services.review.sessions import Session

KEEP_AFTER = 0.375
"""Share of a lease after which a page renews it, so that one lost request does no harm."""

router = APIRouter()


class Action(StrEnum):
    """Action of a key or button."""

    SAVE = "save"
    UNREADABLE = "unreadable"
    NOT_A_LINE = "not_a_line"
    CUT_WRONG = "cut_wrong"
    SKIP = "skip"
    UNDO = "undo"


QUALITIES = {
    Action.SAVE: Quality.OK,
    Action.UNREADABLE: Quality.UNREADABLE,
    Action.NOT_A_LINE: Quality.NOT_A_LINE,
    Action.CUT_WRONG: Quality.CUT_WRONG,
}
MESSAGES = {
    AnnotationOutcome.UNCHANGED: Text("It was saved before."),
    AnnotationOutcome.CONFLICT: Text("Another person annotated that image; theirs is kept."),
    AnnotationOutcome.UNKNOWN: Text("That image was removed or replaced."),
}
ONCE_BYTES = 16
ANSWERED = "answered"
"""Event on which a page renews the progress."""


class FilterForm(GalleryForm):
    """Filter of the queue in the address."""

    mode: Mode = Mode.WORST

    @property
    def wanted(self) -> QueueFilter:
        """Convert it for the queue.

        Raises:
            InvalidCursorError: The cursor is invalid.
        """
        is_given = self.cursor and self.mode is not Mode.RANDOM
        after = decode(self.cursor, sort_keys(self.mode)[-1]) if is_given else None
        return QueueFilter(self.mode, self, self.host, after, self.wait)


class ShownForm(FilterForm):
    """Filter of the queue, and the image that is shown."""

    id: str = Field(max_length=1200)


@router.get("/suspects")
async def suspects_page(_: CurrentUser) -> Response:
    """Redirect to the queue of suspect labels."""
    return RedirectResponse("/queue?mode=suspects", status_code=303)


@router.get("/queue")
async def queue_page(
    state: StateDep, user: CurrentUser, form: Annotated[FilterForm, Query()]
) -> Response:
    """Show the first image of the queue."""
    _check_role(state, user, form)
    task = await state.queue.task(user, form.wanted)
    return _page("queue", state, user, task=task, form=form)


@router.get("/queue/next")
async def next_image(
    state: StateDep, user: CurrentUser, form: Annotated[ShownForm, Query()]
) -> Response:
    """Show which image follows, as a part of the page whose search was cut."""
    _check_role(state, user, form)
    later = await state.queue.following(user, form.wanted, form.id)
    return state.templates.render("ahead", user, later=later)


@router.get("/queue/progress")
async def progress(
    state: StateDep, user: CurrentUser, form: Annotated[FilterForm, Query()]
) -> Response:
    """Show how many images are done, by whom, and left."""
    done = await state.queue.leases.progress(user.name)
    left = await state.queue.left(user, form.wanted)
    return state.templates.render("progress", user, progress=done, left=left, most=MOST_LEFT)


@router.post("/queue/keep", status_code=204)
async def keep(state: StateDep, user: CurrentUser, form: VerifiedForm) -> None:
    """Renew the leases of the shown images."""
    await state.queue.leases.keep([text_of(form, "id"), text_of(form, "next")], user.id)


@router.post("/queue/answer")
async def answer(
    request: Request, state: StateDep, user: CurrentUser, posted: VerifiedForm
) -> Response:
    """Perform an action, and show the next image."""
    said = {name: each for name in FilterForm.model_fields if (each := text_of(posted, name))}
    form = FilterForm.model_validate(said | {"where": posted.getlist("where")})
    _check_role(state, user, form)
    wanted = form.wanted
    done = await _act(state, user, posted)
    task = await state.queue.task(user, wanted, *filter(None, done.expected))
    if "hx-request" not in request.headers:
        # No redirect: it would lose what happened, what was typed and which image comes next
        state = replace(state, templates=replace(state.templates, address=_address(form)))
        return _page("queue", state, user, task=task, form=form, done=done)
    page = _page("task", state, user, task=task, form=form, done=done)
    page.headers["HX-Trigger"] = ANSWERED
    return page


@router.get("/queue/answer")
async def answered_page(_: CurrentUser, form: Annotated[FilterForm, Query()]) -> Response:
    """Redirect to the queue, as a browser without scripts shows this address after an answer."""
    return RedirectResponse(_address(form), status_code=303)


def _address(form: FilterForm) -> str:
    """Return the address of the queue with a filter."""
    parameters = urlencode(form.parameters(form.cursor))
    return f"/queue?{parameters}" if parameters else "/queue"


class Done(NamedTuple):
    """Outcome of an action."""

    message: Text
    text: str | None
    """To be shown in the input; None: that of the image."""
    expected: list[str]
    """Preferred next images."""


def _page(
    name: str,
    state: AppState,
    user: Session,
    *,
    task: Task,
    form: FilterForm,
    done: Done | None = None,
) -> Response:
    image = task.now
    annotation = image.annotation if image and form.mode.shows_annotation else None
    is_second = bool(image and image.annotation) and annotation is None
    reasons = state.queue.suspects.reasons(image) if image and annotation else []
    figures = state.quality.figures
    return state.templates.render(
        name,
        user,
        task=task,
        form=form,
        choices=choices(figures, form, state.overview.batch_names()),
        suggested=figures.suggested() if figures else {},
        done=done,
        annotation=annotation,
        is_second=is_second,
        decides=state.queue.is_reviewer(user)
        and bool(state.queue.second_share or state.quality.agreements.total.images),
        reasons=[SENTENCES[each] for each in reasons],
        offered=offered_texts(image, with_typed=not is_second) if image else [],
        characters=state.settings.characters.split(),
        is_searched=state.queue.search.is_ready(form.mode),
        later=encode(task.cut.after) if task.cut and task.cut.after else "",
        once=secrets.token_hex(ONCE_BYTES),
        keep_milliseconds=int(state.settings.lease_seconds * 1000 * KEEP_AFTER),
    )


async def _act(state: AppState, user: Session, form: FormData) -> Done:
    """Perform an action."""
    image, later, text = (text_of(form, name) for name in ("id", "next", "text"))
    action = _action_of(form)
    if action is Action.UNDO:
        return await _undo(state, user, form, Done(Text("Nothing to undo."), text, [image, later]))
    if action is Action.SKIP:
        await state.queue.leases.skip(image, user.id)
        return Done(Text("Skipped: you are not shown it again today."), None, [later])
    shown = shown_in(form)
    suspect = text_of(form, "suspect") if "suspect" in form else None
    try:
        outcome = await state.queue.answer(
            user,
            image,
            text=text,
            quality=QUALITIES[action],
            etag=text_of(form, "etag"),
            shown=shown,
            suspect=suspect,
        )
    except UnacceptableAnnotationError as error:
        return Done(
            Text("Not saved: %(reason)s.", {"reason": text_of_error(error)}), text, [image, later]
        )
    if outcome is not AnnotationOutcome.WRITTEN:
        return Done(MESSAGES[outcome], None, [later])
    return Done(_saved(collapse(text), action, shown or [], suspect), None, [later])


async def _undo(state: AppState, user: Session, form: FormData, nothing: Done) -> Done:
    undone = await state.queue.undo(user, text_of(form, "once"))
    if undone is None:
        return nothing
    image, later = nothing.expected
    await state.queue.leases.release(later, user.id)
    # What they typed, not the prediction: otherwise the next Enter would save that
    history = (await state.images.load(undone.image)).annotation_history
    mine = (each for each in reversed(history) if each.matches(by=user.name, at=undone.at))
    text = next((each.text for each in mine if each.text), None)
    return Done(Text("Undone: the image is as it was before."), text, [undone.image, image])


def _check_role(state: AppState, user: Session, form: FilterForm) -> None:
    """Raise an error if a person who is no reviewer asks for what reviewers decide."""
    if form.mode is Mode.DECIDE and not state.queue.is_reviewer(user):
        raise ProblemError(403, "no_reviewer", "only reviewers decide (REVIEW_REVIEWERS)")


def _saved(text: str, action: Action, shown: Sequence[str], suspect: str | None) -> Text:
    """Say what was saved."""
    said = {"text": text}
    if action is Action.UNREADABLE:
        return Text("Saved: unreadable.")
    if action is Action.NOT_A_LINE:
        return Text("Saved: not a line.")
    if action is Action.CUT_WRONG:
        return Text("Saved: cut wrong.")
    if suspect is not None:
        confirmed = Text("Confirmed: \u201c%(text)s\u201d.", said)
        return confirmed if text == suspect else Text("Corrected: \u201c%(text)s\u201d.", said)
    if text in {collapse(as_typed(each)) for each in shown}:
        return Text("Saved, accepted as read: \u201c%(text)s\u201d.", said)
    return Text("Saved, as you typed it: \u201c%(text)s\u201d.", said)


def _action_of(form: FormData) -> Action:
    try:
        return Action(text_of(form, "action"))
    except ValueError as error:
        raise ProblemError(422, "invalid_request", "unknown action") from error
