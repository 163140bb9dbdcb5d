"""Find suspect annotations in ``images``: used by ``docreco suspects`` and the review page."""

import asyncio
import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from services.common.adapters.image_repository import ImageRepository
from services.common.domain.double_reading import DoubleState
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import ImageFilter
from services.quality.annotated import FIELDS, annotated
from services.quality.suspects import Norms, Reason, similarity_of

MOST_SAMPLES = 10_000
"""Images of which the norms are made: the first ones by hash, which is a random sample."""
_FIELDS = {
    **FIELDS,
    **dict.fromkeys(("width", "height", "annotation_history", "sources", "sources_count"), 1),
    **dict.fromkeys(("bucket", "key", "etag", "stored_at"), 1),
}


class Suspect(NamedTuple):
    """An image with a suspect annotation."""

    document: ImageDocument
    reasons: Sequence[Reason]
    """In the order of ``Reason``; not empty."""


@dataclass
class Suspects:
    """The suspect annotations of some images.

    Args:
        norms: What they were compared with.
        most: Limit of ``found``: the most suspect ones are kept.
    """

    norms: Norms = field(default_factory=Norms)
    most: int = 1000
    annotated: int = 0
    """Images with a text, suspect or not."""
    total: int = 0
    counts: Counter[Reason] = field(default_factory=Counter)
    _heap: list[tuple[tuple[float, ...], str, Suspect]] = field(default_factory=list)

    @property
    def found(self) -> list[Suspect]:
        """The most suspect ones first."""
        return [suspect for _, _, suspect in sorted(self._heap, reverse=True)]

    def add_all(self, documents: Iterable[ImageDocument], only: Collection[Reason] = ()) -> None:
        """Judge annotated images; see ``add``."""
        for document in documents:
            self.add(document, only)

    def add(self, document: ImageDocument, only: Collection[Reason] = ()) -> None:
        """Judge an annotated image; ``only``: suspect for one of these reasons."""
        self.annotated += 1
        reasons = self.norms.reasons(document)
        if not reasons or (only and not set(only).intersection(reasons)):
            return
        self.total += 1
        self.counts.update(reasons)
        places = list(Reason)
        rank = (-places.index(reasons[0]), len(reasons), -similarity_of(document))
        entry = (rank, document.id, Suspect(document, reasons))
        if len(self._heap) < self.most:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)


async def find_suspects(
    images: ImageRepository, where: ImageFilter, *, most: int, only: Collection[Reason] = ()
) -> Suspects:
    """Judge all matching annotations, each image once."""
    norms = await learn_norms(images, where)
    if norms.of_all is None:
        norms = await learn_norms(images, ImageFilter())
    suspects = Suspects(norms, most)
    async for page in annotated(images, where, fields=_FIELDS):
        # In a thread: comparing texts would delay whatever else the process serves
        await asyncio.to_thread(suspects.add_all, [image.document for image in page], only)
    # They have no reference text until a reviewer decides
    undecided = replace(where, status=("predicted",), double=(DoubleState.DIFFERENT,))
    async for document in images.find(undecided, fields=_FIELDS):
        suspects.add(document, only)
    return suspects


async def learn_norms(images: ImageRepository, where: ImageFilter) -> Norms:
    """Return what is usual of matching images."""
    samples: list[ImageDocument] = []
    async for page in annotated(images, where, fields=_FIELDS):
        samples += (image.document for image in page)
        if len(samples) >= MOST_SAMPLES:
            break
    return await asyncio.to_thread(Norms.of, samples[:MOST_SAMPLES])
