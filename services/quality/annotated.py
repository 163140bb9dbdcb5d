"""Images as samples of quality: each once, however many objects have its bytes.

``docreco evaluate``, ``docreco calibrate``, the quality page and the metrics of annotated images
all count this way.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import NamedTuple, Self

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.keyset import by_sha256, paginate
from services.common.domain.accuracy import character_errors
from services.common.domain.annotations import collapse
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import ImageFilter
from services.common.domain.labels import Label, label_of
from services.common.domain.records import UNKNOWN_HOW

FIELDS = dict.fromkeys(("sha256", "status", "annotation", "prediction"), 1)
"""Of a document, what is read here."""


class Image(NamedTuple):
    """Documents of equal bytes, in the order of their keys, and the one that counts for all."""

    copies: Sequence[ImageDocument]
    document: ImageDocument
    """The first one whose text a person has written, as in an export; else the first one."""
    right: str | None
    """What it reads, in normalised form and never empty; None where nobody has written it."""

    @classmethod
    def of(cls, copies: Sequence[ImageDocument], *, only_corrected: bool = False) -> Self:
        """Return the image of at least one document."""
        for each in copies:
            if (right := right_text(each, only_corrected=only_corrected)) is not None:
                return cls(copies, each, right)
        return cls(copies, copies[0], None)


class Misreading(NamedTuple):
    """What was read, in the form in which texts are compared."""

    read: str
    errors: int
    """Characters that are wrong, missing or superfluous."""


def how_of(document: ImageDocument) -> str:
    """Return how the right text of an image came about."""
    annotation = document.annotation
    return (annotation and annotation.known_how) or UNKNOWN_HOW


def right_text(document: ImageDocument, *, only_corrected: bool = False) -> str | None:
    """Return what an image reads, in its normalised form, never empty.

    None where nobody has written it: no annotation, or one that says ``unreadable`` or
    ``not_a_line``, or a document without a prediction; with ``only_corrected`` also where it may
    be a prediction that a person accepted.
    """
    label = label_of(document, only_annotated=True, min_agreement=1, only_corrected=only_corrected)
    return label.text if isinstance(label, Label) else None


def misreading(read: str, *, right: str) -> Misreading:
    """Compare a prediction with a right text."""
    collapsed = collapse(read)
    return Misreading(collapsed, character_errors(right=right, read=collapsed).errors)


async def annotated(
    images: ImageRepository,
    where: ImageFilter,
    *,
    fields: Mapping[str, int] = FIELDS,
    only_corrected: bool = False,
) -> AsyncIterator[list[Image]]:
    """Yield predicted images that have a right text, some at a time, in the order of their hashes.

    Args:
        images: The collection.
        where: What their documents meet besides.
        fields: Of documents; at least ``FIELDS``.
        only_corrected: Whether a prediction that a person accepted is none.

    Raises:
        IndexUnavailableError: MongoDB does not answer.
    """
    where = replace(where, annotated=True)
    async for page in predicted(images, where, fields=fields, only_corrected=only_corrected):
        yield [each for each in page if each.right is not None]


async def predicted(
    images: ImageRepository,
    where: ImageFilter,
    *,
    fields: Mapping[str, int] = FIELDS,
    only_corrected: bool = False,
) -> AsyncIterator[list[Image]]:
    """Yield predicted images, some at a time, in the order of their hashes.

    Args:
        images: The collection.
        where: What their documents meet besides.
        fields: Of documents; at least ``FIELDS``.
        only_corrected: Whether a prediction that a person accepted is no right text.

    Raises:
        IndexUnavailableError: MongoDB does not answer.
    """
    of = partial(Image.of, only_corrected=only_corrected)
    last: list[ImageDocument] = []
    where = replace(where, status=("predicted",))
    async for page in paginate(images, where, by_sha256(), fields=fields):
        documents = [*last, *page.documents]
        groups = [list(copies) for _, copies in groupby(documents, key=lambda each: each.sha256)]
        last = groups.pop() if groups else []  # the next page may have more of it
        yield [of(copies) for copies in groups]
    if last:
        yield [of(last)]
