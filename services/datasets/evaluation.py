"""Samples to evaluate models on annotated images, and their readers."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple, Protocol

from services.common.adapters.image_repository import ImageRepository
from services.common.domain.accuracy import hypothesis_of, word_errors
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import ImageFilter
from services.common.domain.records import UNKNOWN_HOW, UPLOADED
from services.datasets.copies import FIELDS, find_copies
from services.datasets.grouping import Splitting
from services.datasets.splits import hosts_of
from services.quality.annotated import AnnotatedImage, annotated, how_of


class ModelReading(NamedTuple):
    """A model's reading of an image."""

    text: str
    score: float
    model_version: str


class Use(Enum):
    """Part that an image had in making a model."""

    NONE = auto()
    CHOICE = auto()
    """It chose weights and language model, and the calibration was fitted to it."""
    TRAINING = auto()


UseOf = Callable[[str, str], Use]
"""Use of the image of a SHA-256 for the model of a version."""


@dataclass(frozen=True, slots=True)
class EvaluatedReading:
    """One reading compared with its reference."""

    image: str
    """``bucket/key``."""
    host: str
    """Host of its first URL; without one, its collection."""
    reference: str
    hypothesis: str
    score: float
    errors: int
    """Edits of characters."""
    word_errors: int
    words: int
    """Of the reference text."""
    how: str = UNKNOWN_HOW
    """Origin of the reference text."""
    use: Use = Use.NONE
    """For the model."""

    @property
    def is_exact(self) -> bool:
        """Whether there is no error."""
        return self.errors == 0


class Reader(Protocol):
    """A model, running or with stored predictions."""

    @property
    def name(self) -> str:
        """Displayed name."""

    async def read(self, documents: Sequence[ImageDocument]) -> list[ModelReading | None]:
        """Return its reading of each image; None if missing or impossible."""
        ...


@dataclass(frozen=True)
class StoredReader:
    """Stored predictions of a model version, including ``history``."""

    version: str | None
    """None: the last prediction of each image."""

    @property
    def name(self) -> str:
        """Displayed name."""
        return self.version or "last predictions"

    async def read(self, documents: Sequence[ImageDocument]) -> list[ModelReading | None]:
        """Return its prediction of each image."""
        return [stored_reading(document, self.version) for document in documents]


@dataclass(frozen=True)
class SplitPart:
    """One part of a split, to exclude images that a model was trained on."""

    splitting: Splitting
    name: str

    def has(self, copies: Sequence[ImageDocument]) -> bool:
        """Whether an image, given all its documents, belongs to it."""
        return self.splitting.place(copies) == self.name


def stored_reading(document: ImageDocument, version: str | None) -> ModelReading | None:
    """Return the last prediction of a model version (None: of any) in a document."""
    readings = [*document.history, *([document.prediction] if document.prediction else [])]
    fitting = (each for each in reversed(readings) if version in {None, each.model_version})
    found = next(fitting, None)
    if found is None:
        return None
    return ModelReading(found.text, found.score, str(found.model_version))


async def read_annotated(
    images: ImageRepository,
    where: ImageFilter,
    readers: Sequence[Reader],
    part: SplitPart | None = None,
    *,
    only_corrected: bool = False,
    use_of: UseOf = lambda *_: Use.NONE,
) -> AsyncIterator[tuple[EvaluatedReading | None, ...]]:
    """Yield each image whose text a person has written, with what each reader makes of it.

    None stands for a reader that has not read it, or can't. ``where`` names a bucket. With
    ``only_corrected``, a prediction that a person accepted is no such text.
    """
    fields = {**FIELDS, "history.score": 1}
    async for page in annotated(images, where, fields=fields, only_corrected=only_corrected):
        chosen = await _only(part, page, images, str(where.bucket))
        documents = [image.document for image in chosen]
        readings = [await reader.read(documents) for reader in readers]
        for image, *read in zip(chosen, *readings, strict=True):
            yield tuple(_sample(image, each, use_of) for each in read)


async def _only(
    part: SplitPart | None, page: list[AnnotatedImage], images: ImageRepository, bucket: str
) -> list[AnnotatedImage]:
    """Return the images of a part, decided as in an export."""
    if part is None:
        return page
    hashes = [str(each.document.sha256) for each in page]
    copies = await find_copies(images, bucket, hashes)
    return [
        each
        for each, sha256 in zip(page, hashes, strict=True)
        if part.has(copies.get(sha256, each.copies))
    ]


def _sample(
    image: AnnotatedImage, reading: ModelReading | None, use_of: UseOf
) -> EvaluatedReading | None:
    if reading is None:
        return None
    document, reference = image.document, image.reference or ""
    hypothesis, errors = hypothesis_of(reading.text, reference=reference)
    collections = (each.collection for each in document.sources if each.collection)
    origins = [*hosts_of(document.sources), *collections, UPLOADED]
    wrong_words, words = word_errors(reference=reference, hypothesis=hypothesis)
    return EvaluatedReading(
        image=document.id,
        host=origins[0],
        reference=reference,
        hypothesis=hypothesis,
        score=reading.score,
        errors=errors,
        word_errors=wrong_words,
        words=words,
        how=how_of(document),
        use=use_of(reading.model_version, str(document.sha256)),
    )
