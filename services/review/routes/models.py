"""The models page."""

import asyncio

from fastapi import APIRouter, Response

from services.review.access import CurrentUser, StateDep
from services.review.models import read_models

router = APIRouter()


@router.get("/models")
async def models_page(state: StateDep, user: CurrentUser) -> Response:
    """Show the models, what is served, and where the loop stands."""
    found, now = await asyncio.gather(
        asyncio.to_thread(read_models, state.settings.models), state.overview.latest()
    )
    monitoring = now.monitoring if now else None
    return state.templates.render("models", user, found=found, monitoring=monitoring)
