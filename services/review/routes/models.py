"""The models page."""

import asyncio

from fastapi import APIRouter, Response

from services.review.access import Me, Of
from services.review.models import read_models

router = APIRouter()


@router.get("/models")
async def models_page(parts: Of, me: Me) -> Response:
    """Show the models, what is served, and where the loop stands."""
    found, now = await asyncio.gather(
        asyncio.to_thread(read_models, parts.settings.models), parts.overview.look()
    )
    monitoring = now.monitoring if now else None
    return parts.pages.page("models", me, found=found, monitoring=monitoring)
