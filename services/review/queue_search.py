"""Search of the queue: the images that a person may be offered, in order."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import monotonic

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.keyset import Cursor, paginate
from services.common.domain.image import ImageDocument
from services.review.queue_filter import Mode, QueueFilter, of_second_reader, sort_keys, where
from services.review.refreshed_answer import RefreshedAnswer
from services.review.search_limits import search_seconds
from services.review.suspects import SuspectList, is_within


@dataclass(frozen=True)
class SearchCut:
    """The end of a search that timed out.

    Args:
        after: Cursor to continue from; None: it begins again.
    """

    after: Cursor | None


@dataclass(frozen=True)
class QueueSearch:
    """Searches images.

    Args:
        images: Repository of images.
        suspects: Images whose annotation may be wrong.
        suggestions: Images whose annotation would teach most.
    """

    images: ImageRepository
    suspects: SuspectList
    suggestions: RefreshedAnswer[dict[str, ImageDocument]]

    def is_ready(self, mode: Mode) -> bool:
        """Whether the images of this order are known; if not, they will be soon."""
        if mode is Mode.TEACHING:
            return self.suggestions.last is not None
        return mode is not Mode.SUSPECTS or self.suspects.is_ready

    async def find(
        self, wanted: QueueFilter, person: str, taken: set[str]
    ) -> AsyncIterator[str | SearchCut]:
        """Yield images for a person that are not taken, and finally where the search timed out."""
        for images in (self._first(wanted, person), self._suggested(wanted)):
            async for image in images:
                if image not in taken:
                    yield image
        if wanted.mode.shows_annotation or not self.is_ready(wanted.mode):
            return
        async for found in self._candidates(wanted, taken):
            yield found

    async def _first(self, wanted: QueueFilter, person: str) -> AsyncIterator[str]:
        """Yield what comes before images without annotation: second readings, or it alone."""
        if wanted.mode is Mode.SUSPECTS:
            for image in self.suspects.ids(wanted.limits, wanted.host):
                yield image
        elif wanted.mode is not Mode.DISAGREEMENT:
            seconds = search_seconds(wait=wanted.wait)
            is_deciding, deadline = wanted.mode is Mode.DECIDE, monotonic() + seconds
            chosen = where(wanted) if is_deciding else of_second_reader(wanted, person)
            async for document in self.images.find(chosen, fields={"_id": 1}):
                yield document.id
                if not is_deciding and monotonic() > deadline:
                    break

    async def _suggested(self, wanted: QueueFilter) -> AsyncIterator[str]:
        suggested = await self.suggestions.latest() if wanted.mode is Mode.TEACHING else None
        for each in [*(suggested or {}).values()]:
            if is_within(each, wanted.limits, wanted.host):
                yield each.id

    async def _candidates(
        self, wanted: QueueFilter, taken: set[str]
    ) -> AsyncIterator[str | SearchCut]:
        """Yield images, and finally where the search timed out.

        The first answer of a page never goes on to the next pass early, which would offer a later
        image.
        """
        after, keys = wanted.after, sort_keys(wanted.mode)
        seconds = search_seconds(wait=wanted.wait)
        deadline = monotonic() + seconds
        # A cursor is of the last pass, for which each earlier one leaves as much time
        for key in keys if after is None else keys[-1:]:
            if wanted.wait:
                deadline = monotonic() + seconds / len(keys)
            fields = {key.field: 1}
            async for page in paginate(self.images, where(wanted), key, after=after, fields=fields):
                for document in page.documents:
                    if document.id not in taken:
                        yield document.id
                if page.next and not page.documents and monotonic() > deadline:
                    is_last = key is keys[-1]
                    if is_last or not wanted.wait:
                        can_go_on = is_last and wanted.mode is not Mode.RANDOM
                        yield SearchCut(page.next if can_go_on else None)
                        return
                    break
