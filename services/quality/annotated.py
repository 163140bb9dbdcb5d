"""Images as samples of quality: each counted once, for all objects with its bytes.

Used by ``docreco evaluate``, ``docreco calibrate``, the quality page and the metrics of annotated
images.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import NamedTuple, Self

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.keyset import by_sha256, paginate
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import ImageFilter
from services.common.domain.labels import Label, is_undecided, label_of, without_overruled
from services.common.domain.records import UNKNOWN_HOW

FIELDS = dict.fromkeys(("sha256", "status", "annotation", "prediction", "double_reading.state"), 1)
"""Fields of a document that are needed here."""


class AnnotatedImage(NamedTuple):
    """Documents of equal bytes sorted by key, and their representative."""

    copies: Sequence[ImageDocument]
    document: ImageDocument
    """The one whose annotation an export takes; otherwise the first one."""
    reference: str | None
    """Reference text, normalised and never empty; None if it is not annotated."""

    @classmethod
    def of(cls, copies: Sequence[ImageDocument], *, only_corrected: bool = False) -> Self:
        """Return the image of one or more documents."""
        for each in () if is_undecided(copies) else without_overruled(copies):
            if (reference := reference_text(each, only_corrected=only_corrected)) is not None:
                return cls(copies, each, reference)
        return cls(copies, copies[0], None)


def how_of(document: ImageDocument) -> str:
    """Return the origin of an image's reference text."""
    annotation = document.annotation
    return (annotation and annotation.known_how) or UNKNOWN_HOW


def reference_text(document: ImageDocument, *, only_corrected: bool = False) -> str | None:
    """Return the reference text of an image, normalised, never empty.

    None without annotation, with another quality than ``ok``, or without prediction; with
    ``only_corrected`` also if it may be an accepted prediction.
    """
    label = label_of(document, only_annotated=True, min_agreement=1, only_corrected=only_corrected)
    return label.text if isinstance(label, Label) else None


async def annotated(
    images: ImageRepository,
    where: ImageFilter,
    *,
    fields: Mapping[str, int] = FIELDS,
    only_corrected: bool = False,
) -> AsyncIterator[list[AnnotatedImage]]:
    """Yield batches of predicted images with a reference text, sorted by hash.

    Args:
        images: The collection.
        where: Further conditions of documents.
        fields: Of documents; at least ``FIELDS``.
        only_corrected: Whether to skip accepted predictions.
    """
    where = replace(where, annotated=True)
    async for page in predicted(images, where, fields=fields, only_corrected=only_corrected):
        yield [each for each in page if each.reference is not None]


async def predicted(
    images: ImageRepository,
    where: ImageFilter,
    *,
    fields: Mapping[str, int] = FIELDS,
    only_corrected: bool = False,
) -> AsyncIterator[list[AnnotatedImage]]:
    """Yield batches of predicted images, sorted by hash."""
    of = partial(AnnotatedImage.of, only_corrected=only_corrected)
    last: list[ImageDocument] = []
    where = replace(where, status=("predicted",))
    async for page in paginate(images, where, by_sha256(), fields=fields):
        documents = [*last, *page.documents]
        groups = [list(copies) for _, copies in groupby(documents, key=lambda each: each.sha256)]
        last = groups.pop() if groups else []  # the next page may have more of it
        yield [of(copies) for copies in groups]
    if last:
        yield [of(last)]
