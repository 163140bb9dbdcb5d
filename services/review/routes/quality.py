"""The quality page."""

from fastapi import APIRouter, Response

from services.review.access import Me, Of

router = APIRouter()


@router.get("/quality")
async def quality_page(parts: Of, me: Me) -> Response:
    """Show the figures of the last count."""
    return parts.pages.page("quality", me, figures=parts.quality.figures)
