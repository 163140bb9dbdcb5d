"""The answer with a stored picture, of a line or of a page."""

import asyncio
from typing import Annotated

from fastapi import Query, Response

from services.common.adapters.object_store import ObjectStore
from services.common.domain.errors import ObjectNotFoundError
from services.common.domain.objects import ObjectTooLargeError
from services.common.runtime.problems import ProblemError
from services.review.access import AppState
from services.review.pictures import NotShownError, to_picture

SECONDS_IN_BROWSER = 120
"""Browser cache time, for preloaded images."""
_HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Content-Disposition": "inline",
    "Cache-Control": f"private, max-age={SECONDS_IN_BROWSER}",
}

ETag = Annotated[str, Query(max_length=200)]


async def picture_response(state: AppState, store: ObjectStore, key: str, etag: str) -> Response:
    """Read a stored image and answer with it in a form that browsers show.

    Raises:
        ProblemError: It does not exist, has other bytes, is too large, or can't be shown.
    """
    try:
        stored = await store.read(key, max_bytes=state.settings.max_object_bytes)
        if stored.info.etag != etag:
            raise ProblemError(409, "changed", "this picture was replaced")
        async with state.conversions:
            picture = await asyncio.to_thread(to_picture, stored.content)
    except ObjectNotFoundError as error:
        raise ProblemError(404, error.code, "the object does not exist any longer") from error
    except (NotShownError, ObjectTooLargeError) as error:
        raise ProblemError(415, error.code, str(error)) from error
    return Response(picture.content, media_type=picture.content_type, headers=_HEADERS)
