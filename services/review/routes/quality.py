"""The quality page."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from services.common.domain.image_filter import Limits
from services.review.access import CurrentUser, StateDep
from services.review.figures import WEEK
from services.review.quality import choices

router = APIRouter()


@router.get("/quality")
async def quality_page(
    state: StateDep, user: CurrentUser, form: Annotated[Limits, Query()]
) -> Response:
    """Show the figures of the last count, of all images or of a collection or batch."""
    counted = state.quality.figures
    names = state.overview.batch_names()
    figures, offered = counted and counted.of(form), choices(counted, form, names)
    return state.templates.render(
        "quality",
        user,
        figures=figures,
        form=form,
        choices=offered,
        week=WEEK,
        agreements=state.quality.agreements,
        suspects=len(state.queue.suspects.ids(form)),
        chosen=form.model_dump(mode="json", include={"collection", "batch"}, exclude_none=True),
    )
