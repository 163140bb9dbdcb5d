"""Images for the queue that are searched in the background: suspect ones, and suggestions."""

import asyncio

import structlog

from services.common.adapters.image_repository import ImageRepository
from services.common.domain.errors import UnavailableError
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import ImageFilter, Limits
from services.common.domain.records import Source
from services.common.runtime.periodic import periodic
from services.datasets.suggestion import find_suggestions
from services.quality.suspect_search import Suspects, find_suspects
from services.quality.suspects import Reason
from services.review.quality import RETRY_SECONDS

MOST = 1000
"""Images to offer; those that are done make room at the next search."""

log = structlog.stdlib.get_logger(__name__)


class SuspectList:
    """The suspects of the last search."""

    def __init__(self, images: ImageRepository, *, refresh_seconds: float) -> None:
        self._images = images
        self._refresh_seconds = refresh_seconds
        self._suspects = Suspects()
        self._found: dict[str, ImageDocument] = {}
        self.is_ready = False
        """Whether a search has ended."""

    async def run(self, stop: asyncio.Event) -> None:
        """Search periodically until ``stop`` is set."""
        await periodic(
            self._search, stop, seconds=self._refresh_seconds, retry_seconds=RETRY_SECONDS
        )

    def ids(self, limits: Limits, host: str = "") -> list[str]:
        """Return the suspects within limits, the most suspect first."""
        return [each.id for each in self._found.values() if is_within(each, limits, host)]

    def reasons(self, document: ImageDocument) -> list[Reason]:
        """Judge an image as it is now."""
        return self._suspects.norms.reasons(document)

    def discard(self, image: str) -> None:
        """Remove an image that is no longer suspect."""
        self._found.pop(image, None)

    async def _search(self) -> bool:
        try:
            self._suspects = await find_suspects(self._images, ImageFilter(), most=MOST)
        except UnavailableError as error:
            log.warning("search for suspect labels failed", code=error.code, error=str(error))
            return False
        except Exception:
            # A foreign document must not stop the page
            log.exception("search for suspect labels failed")
            return True
        self._found = {each.document.id: each.document for each in self._suspects.found}
        self.is_ready = True
        return True


async def suggest(images: ImageRepository) -> dict[str, ImageDocument]:
    """Return the images whose annotation would teach most, in order.

    Raises:
        DatabaseUnavailableError: MongoDB does not answer.
    """
    chosen = await find_suggestions(images, ImageFilter(), most=MOST)
    ids = [each.candidate.image for each in chosen.found]
    where, fields = ImageFilter(ids=frozenset(ids)), {"sources": 1, "stored_at": 1}
    known = {each.id: each async for each in images.find(where, fields=fields)}
    return {each: known[each] for each in ids if each in known}


def is_within(document: ImageDocument, limits: Limits, host: str = "") -> bool:
    """Whether an image is within limits."""
    at = document.stored_at
    return (
        (limits.since is None or bool(at and at >= limits.since))
        and (limits.until is None or bool(at and at < limits.until))
        and any(
            limits.match(source) and (not host or _is_at(source, host.lower()))
            for source in document.sources or [Source()]
        )
    )


def _is_at(source: Source, host: str) -> bool:
    """Whether a source is at a host, which is given with or without a port."""
    return source.host is not None and f"{source.host}:".startswith(f"{host}:")
