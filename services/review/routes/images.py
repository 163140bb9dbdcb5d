"""Routes of the gallery, an image's page and its bytes."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import URL

from services.common.domain.annotations import (
    AnnotationOutcome,
    UnacceptableAnnotationError,
    in_words,
    to_annotation,
)
from services.common.domain.image import ImageDocument
from services.common.domain.records import Annotation, Quality
from services.common.domain.texts import Text, text_of_error
from services.common.runtime.problems import ProblemError
from services.erasure.forgetting import Forgetting
from services.erasure.removal import find_targets
from services.quality.suspects import SENTENCES
from services.review.access import AppState, CurrentUser, StateDep, VerifiedForm, shown_in, text_of
from services.review.gallery import Filters, find_page
from services.review.metrics import ANNOTATIONS
from services.review.page_views import strip_of
from services.review.quality import choices
from services.review.routes.pictures import ETag, picture_response
from services.review.sessions import Session

PROOF_SECONDS = 10.0
MESSAGES = {"saved": Text("Saved."), "unchanged": Text("It is unchanged.")}
TAKEN = Text("Another person annotated that image; theirs is kept.")

ImageId = Annotated[str, Query(min_length=1, max_length=1200)]
router = APIRouter()


@router.get("/gallery")
async def gallery_page(
    state: StateDep, user: CurrentUser, filters: Annotated[Filters, Query()]
) -> Response:
    """Show images that match the filters; the newest ones as they come."""
    page = await find_page(state.images, filters)
    figures, names = state.quality.figures, state.overview.batch_names()
    return state.templates.render(
        "gallery",
        user,
        filters=filters,
        page=page,
        is_refreshed=not filters.cursor and dict(filters.parameters()).keys() <= {"collection"},
        choices=choices(figures, filters, names),
        suggested=figures.suggested() if figures else {},
        names=names,
    )


@router.get("/image")
async def image_page(state: StateDep, user: CurrentUser, id: ImageId, said: str = "") -> Response:  # noqa: A002
    """Show an image's details."""
    document = await _document(state, id)
    message = MESSAGES.get(said)
    return await _page(state, user, document, message)


@router.get("/image/strip")
async def strip(state: StateDep, user: CurrentUser, id: ImageId) -> Response:  # noqa: A002
    """Show a line within its page, as a part of another page; empty if it is of none."""
    document = await _document(state, id)
    found = await strip_of(document, state.page_documents, state.images, user.name)
    return state.templates.render("strip", user, strip=found)


@router.get("/content")
async def content(state: StateDep, _: CurrentUser, id: ImageId, etag: ETag) -> Response:  # noqa: A002
    """Serve an image's bytes, as browsers may not reach MinIO.

    Only with the page's ETag, as annotations refer to these bytes.
    """
    document = await _document(state, id)
    if document.status == "rejected":
        # A rejected image may be hostile to decoders, here or in a browser
        raise ProblemError(415, "rejected", "rejected images are not shown")
    return await picture_response(state, state.store, document.key, etag)


@router.post("/image/annotate")
async def correct(
    state: StateDep, user: CurrentUser, form: VerifiedForm, request: Request
) -> Response:
    """Save an annotation, also over another person's that the page has shown; 204 to a script."""
    image = text_of(form, "id")
    document = await _document(state, image)
    quality = text_of(form, "quality")
    try:
        text = text_of(form, "text") if quality == Quality.OK else ""
        said = to_annotation(text, quality, by=user.name)
    except UnacceptableAnnotationError as error:
        message = Text("Not saved: %(reason)s.", {"reason": text_of_error(error)})
        return await _page(state, user, document, message, status=422)
    etag, is_reviewer = text_of(form, "etag"), state.queue.is_reviewer(user)
    seen = text_of(form, "seen")

    def may_replace(current: Annotation) -> bool:
        return "seen" not in form or current.by == user.name or in_words(current) == seen

    outcome = await state.images.correct(
        image,
        said,
        is_reviewer=is_reviewer,
        overwrite=may_replace,
        etag=etag,
        shown=shown_in(form),
    )
    if outcome is AnnotationOutcome.CONFLICT:
        document = await _document(state, image)
        if document.is_read_twice and not is_reviewer:
            detail = "two people have read this image: only reviewers change it (REVIEW_REVIEWERS)"
            raise ProblemError(403, "no_reviewer", detail)
        return await _page(state, user, document, TAKEN, status=409)
    if outcome is AnnotationOutcome.UNKNOWN:
        raise ProblemError(409, "changed", "the image was removed or replaced")
    if outcome is AnnotationOutcome.WRITTEN:
        ANNOTATIONS.labels(quality=said.quality).inc()
    if "hx-request" in request.headers:
        return Response(status_code=204)
    word = "saved" if outcome is AnnotationOutcome.WRITTEN else "unchanged"
    address = URL("/image").include_query_params(id=image, said=word)
    return RedirectResponse(str(address), status_code=303)


@router.post("/image/forget")
async def forget(state: StateDep, user: CurrentUser, form: VerifiedForm) -> Response:
    """Delete an image, and show the proof."""
    document = await _document(state, text_of(form, "id"))
    if text_of(form, "sure") != "yes":
        raise ProblemError(422, "not_confirmed", "tick the box: a deletion can't be undone")
    targets = await find_targets(state.store, state.database, document.key)
    # Another object may have the key of this document: only the shown bytes are meant
    targets = [
        each
        for each in targets
        if each.key == document.key or (each.sha256 and each.sha256 == document.sha256)
    ]
    forgetting = Forgetting(
        state.store, state.database, state.amqp, state.ocr_queues, state.fetch_queues
    )
    found = await forgetting.with_submitted(document.key, targets)
    report = await forgetting.forget(found, wait_seconds=PROOF_SECONDS)
    left = await _document(state, document.id)
    return await _page(state, user, left, proofs=report.proofs)


async def _page(
    state: AppState,
    user: Session,
    image: ImageDocument,
    message: Text | None = None,
    *,
    status: int = 200,
    proofs: Sequence[Mapping[str, Any]] | None = None,
) -> Response:
    annotation = image.shown_to(user.name)
    reasons = state.queue.suspects.reasons(image) if annotation else []
    return state.templates.render(
        "image",
        user,
        status=status,
        image=image,
        message=message,
        proofs=proofs,
        names=state.overview.batch_names(),
        is_reviewer=state.queue.is_reviewer(user),
        reasons=[SENTENCES[each] for each in reasons],
        annotation=annotation,
        strip=await strip_of(image, state.page_documents, state.images, user.name),
    )


async def _document(state: AppState, image: str) -> ImageDocument:
    document = await state.images.get(image)
    if document is None:
        raise ProblemError(404, "image_not_found", "no such image")
    return document
