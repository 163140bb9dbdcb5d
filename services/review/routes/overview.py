"""The overview: the first page."""

from fastapi import APIRouter, Response

from services.common.domain.image_filter import NO_LIMITS
from services.review.access import CurrentUser, StateDep
from services.review.chart import height_of, lines
from services.review.flow import EXPORT, stages, troubles

SHOWN_BATCHES = 6

router = APIRouter()


@router.get("/")
async def overview_page(state: StateDep, user: CurrentUser) -> Response:
    """Show the flow of images, what is wrong with it, and how well they are read."""
    now = await state.overview.latest()
    figures = state.quality.figures
    labels = state.queue.suspects
    suspects = len(labels.ids(NO_LIMITS)) if labels.is_ready else None
    steps = figures.by_time() if figures else []
    threshold = now.monitoring.threshold if now and now.monitoring else None
    return state.templates.render(
        "overview",
        user,
        now=now,
        stages=stages(now, suspects) if now else [],
        troubles=troubles(now, figures.newest_mean if figures else None) if now else [],
        batches=now.lists.batches[:SHOWN_BATCHES] if now and now.lists else [],
        figures=figures,
        worst=figures.worst() if figures else None,
        steps=steps,
        lines=lines(steps),
        threshold=threshold,
        export=EXPORT,
        limit=None if threshold is None else height_of(threshold),
    )
