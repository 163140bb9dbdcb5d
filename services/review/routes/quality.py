"""The quality page."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from services.common.domain.image_filter import Limits
from services.review.access import Me, Of
from services.review.figures import WEEK
from services.review.quality import choices

router = APIRouter()


@router.get("/quality")
async def quality_page(parts: Of, me: Me, form: Annotated[Limits, Query()]) -> Response:
    """Show the figures of the last count, of all images or of a collection or batch."""
    counted = parts.quality.figures
    names = parts.overview.batch_names()
    figures, offered = counted and counted.of(form), choices(counted, form, names)
    return parts.pages.page(
        "quality",
        me,
        figures=figures,
        form=form,
        choices=offered,
        week=WEEK,
        agreements=parts.quality.agreements,
        suspects=len(parts.queue.suspects.ids(form)),
        chosen=form.model_dump(mode="json", include={"collection", "batch"}, exclude_none=True),
    )
