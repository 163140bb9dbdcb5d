"""Order images without annotation by what a label of each would teach a model.

Three criteria, none of which says enough alone:

- Uncertainty (Lewis and Gale, SIGIR 1994): a low score. Its rank counts, as scores of different
  models and calibrations have different scales. An image in which nothing was read counts as
  average: often it is no line.
- Disagreement of two model versions (query by committee; Seung, Opper and Sompolinsky, COLT 1992).
- Novelty of the source: the lowest scores are often of one bad hand, which teaches the same again
  and again. Each label of a source makes its further ones worth less, by the square root of their
  number, as the error of an estimate falls (on redundancy of batches: Settles, "Active Learning
  Literature Survey", 2009, 3.6).
"""

import asyncio
import heapq
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt

from services.common.adapters.image_repository import ImageRepository
from services.common.domain.image_filter import ImageFilter
from services.datasets import copies
from services.datasets.grouping import GROUP, Splitting, source_group
from services.datasets.splits import parse_split
from services.quality.annotated import AnnotatedImage, predicted

MOST_CANDIDATES = 50_000
"""Images to choose from: the first ones by hash, which is a random sample."""
UNKNOWN = 0.5
"""Uncertainty of an image in which nothing was read."""
_FIELDS = dict.fromkeys(
    (
        *("sha256", "status", "key", "stored_at", "annotation", "double_reading.state"),
        *("prediction.text", "prediction.score", "disagreement", "placeholder"),
        *(f"sources.{name}" for name in ("group", "url", "collection", "batch_id")),
        *("sources.at", "sources.fetched_at", "page.id", "page.group", "page.document"),
    ),
    1,
)
_GROUPING = Splitting(parse_split("100"), GROUP)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image without annotation."""

    image: str
    """Id of its document."""
    source: str
    """Its group, such as a hand or a book, else its web site, collection or folder."""
    score: float | None
    """None: nothing was read."""
    disagreement: float = 0.0
    """Of two model versions, 0 to 1; 0 also where only one has read it."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A candidate, and why it was chosen."""

    candidate: Candidate
    uncertainty: float
    """Share of candidates with the same or a higher score."""
    labels: int
    """Labels of its source before it, those of earlier suggestions included."""


@dataclass(frozen=True)
class Suggestions:
    """The first images to annotate."""

    found: list[Suggestion]
    candidates: int
    """Images without annotation that they were chosen from."""
    is_sample: bool = False
    """Whether these are a random sample, as there are very many."""


async def find_suggestions(
    images: ImageRepository, where: ImageFilter, *, most: int
) -> Suggestions:
    """Choose among matching images, each once."""
    candidates: list[Candidate] = []
    labels: Counter[str] = Counter()
    is_sample = False
    async for page in predicted(images, where, fields=_FIELDS):
        for image in page:
            if image.reference is not None:
                labels[_source(image)] += 1
            elif candidate := _candidate(image):
                candidates.append(candidate)
        if is_sample := len(candidates) >= MOST_CANDIDATES:
            break
    found = await asyncio.to_thread(order, candidates, labels, most=most)
    return Suggestions(found, len(candidates), is_sample)


def order(
    candidates: Iterable[Candidate], labels: Mapping[str, int], *, most: int
) -> list[Suggestion]:
    """Choose candidates greedily, the most valuable first."""
    by_source, scores = defaultdict(list), []
    for each in candidates:
        by_source[each.source].append(each)
        scores += [] if each.score is None else [each.score]
    scores.sort()

    def uncertainty(candidate: Candidate) -> float:
        score = candidate.score
        return UNKNOWN if score is None else 1 - bisect_left(scores, score) / len(scores)

    def value(candidate: Candidate) -> float:
        return uncertainty(candidate) + candidate.disagreement

    counts = Counter(labels)
    heap: list[tuple[float, str]] = []

    def push(source: str) -> None:
        if left := by_source[source]:
            heapq.heappush(heap, (-value(left[-1]) / sqrt(1 + counts[source]), source))

    for source, some in by_source.items():
        some.sort(key=lambda each: (value(each), each.image))
        push(source)
    found: list[Suggestion] = []
    while heap and len(found) < most:
        _, source = heapq.heappop(heap)
        chosen = by_source[source].pop()
        found.append(Suggestion(chosen, uncertainty(chosen), counts[source]))
        counts[source] += 1
        push(source)
    return found


def _candidate(image: AnnotatedImage) -> Candidate | None:
    """Return an image that waits for its annotation, or None."""
    if any(each.annotation or each.placeholder for each in image.copies):
        return None
    document = image.document
    prediction = document.prediction
    score = prediction.score if prediction and prediction.text else None
    return Candidate(document.id, _source(image), score, document.disagreement or 0.0)


def _source(image: AnnotatedImage) -> str:
    groups = _GROUPING.groups(image.copies)
    return groups[0] if groups else source_group(copies.provenance_of(image.copies))
