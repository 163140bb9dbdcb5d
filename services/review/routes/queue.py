"""Routes of the queue."""

from enum import StrEnum
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import FormData

from services.common.domain.annotations import Outcome, UnacceptableAnnotationError
from services.common.domain.records import Quality
from services.common.runtime.problems import ProblemError
from services.review.access import Me, Of, Parts, Posted, shown_in, text_of
from services.review.gallery import Form, decode, encode
from services.review.quality import choices
from services.review.queue import Mode, Task, Wish, sort_keys
from services.review.sessions import Session

KEEP_AFTER = 0.375
"""Share of a lease after which a page renews it, so that one lost request does no harm."""

router = APIRouter()


class Action(StrEnum):
    """Action of a key or button."""

    SAVE = "save"
    UNREADABLE = "unreadable"
    NOT_A_LINE = "not_a_line"
    SKIP = "skip"
    UNDO = "undo"


QUALITIES = {
    Action.SAVE: Quality.OK,
    Action.UNREADABLE: Quality.UNREADABLE,
    Action.NOT_A_LINE: Quality.NOT_A_LINE,
}
MESSAGES = {
    Outcome.WRITTEN: "",
    Outcome.UNCHANGED: "",
    Outcome.CONFLICT: "Another person annotated that image; theirs is kept.",
    Outcome.UNKNOWN: "That image was removed or replaced.",
}


class WishForm(Form):
    """Filter of the queue in the address."""

    mode: Mode = Mode.WORST

    @property
    def wish(self) -> Wish:
        """Convert it for the queue.

        Raises:
            InvalidCursorError: The cursor is invalid.
        """
        is_given = self.cursor and self.mode is not Mode.RANDOM
        after = decode(self.cursor, sort_keys(self.mode)[0]) if is_given else None
        return Wish(self.mode, self, self.host, after)


@router.get("/")
async def start(_: Me) -> Response:
    """Redirect to the queue."""
    return RedirectResponse("/queue", status_code=303)


@router.get("/queue")
async def queue_page(parts: Of, me: Me, form: Annotated[WishForm, Query()]) -> Response:
    """Show the first image of the queue."""
    task = await parts.queue.task(me, form.wish)
    return _page("queue", parts, me, task=task, form=form)


@router.post("/queue/keep", status_code=204)
async def keep(parts: Of, me: Me, form: Posted) -> None:
    """Renew the leases of the shown images."""
    await parts.queue.leases.keep([text_of(form, "id"), text_of(form, "next")], me.id)


@router.post("/queue/answer")
async def answer(request: Request, parts: Of, me: Me, posted: Posted) -> Response:
    """Perform an action, and show the next image."""
    said = {name: each for name in WishForm.model_fields if (each := text_of(posted, name))}
    form = WishForm.model_validate(said | {"where": posted.getlist("where")})
    wish = form.wish
    message, text, expected = await _act(parts, me, posted)
    task = await parts.queue.task(me, wish, *filter(None, expected))
    if "hx-request" not in request.headers:
        address = f"/queue?{urlencode(form.parameters(form.cursor))}"
        return RedirectResponse(address, status_code=303)
    return _page("task", parts, me, task=task, form=form, message=message, text=text)


def _page(
    name: str,
    parts: Parts,
    me: Session,
    *,
    task: Task,
    form: WishForm,
    message: str = "",
    text: str | None = None,
) -> Response:
    return parts.pages.page(
        name,
        me,
        task=task,
        form=form,
        choices=choices(parts.quality.figures, form),
        message=message,
        text=text,
        later=encode(task.after) if task.after else "",
        keep_milliseconds=int(parts.settings.lease_seconds * 1000 * KEEP_AFTER),
    )


async def _act(parts: Parts, me: Session, form: FormData) -> tuple[str, str | None, list[str]]:
    """Perform it; return message, text and preferred next images."""
    image, later, text = (text_of(form, name) for name in ("id", "next", "text"))
    action = _action_of(form)
    if action is Action.UNDO:
        if (undone := await parts.queue.undo(me)) is None:
            return "Nothing to undo.", text, [image, later]
        await parts.queue.leases.release(later, me.id)
        return "Undone: the image is as it was before.", None, [undone, image]
    if action is Action.SKIP:
        await parts.queue.leases.skip(image, me.id)
        return "", None, [later]
    try:
        outcome = await parts.queue.answer(
            me,
            image,
            text=text,
            quality=QUALITIES[action],
            etag=text_of(form, "etag"),
            shown=shown_in(form),
        )
    except UnacceptableAnnotationError as error:
        return f"Not saved: {error}.", text, [image, later]
    return MESSAGES[outcome], None, [later]


def _action_of(form: FormData) -> Action:
    try:
        return Action(text_of(form, "action"))
    except ValueError as error:
        raise ProblemError(422, "invalid_request", "unknown action") from error
