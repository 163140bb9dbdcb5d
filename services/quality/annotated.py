"""Images whose text a person has written, and how far a prediction is from it.

``docreco evaluate``, the quality page and the metrics of annotated images all count this way.
"""

from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.keyset import by_sha256, paginate
from services.common.domain.accuracy import character_errors
from services.common.domain.annotations import collapse
from services.common.domain.image import ImageDocument
from services.common.domain.labels import Label, label_of

FIELDS = dict.fromkeys(("sha256", "status", "annotation", "prediction"), 1)
"""Of a document, what is read here."""


class Misreading(NamedTuple):
    """What was read, in the form in which texts are compared."""

    read: str
    errors: int
    """Characters that are wrong, missing or superfluous."""


def right_text(document: ImageDocument) -> str | None:
    """Return what an image reads, in its normalised form, never empty.

    None where nobody has written it: no annotation, or one that says ``unreadable`` or
    ``not_a_line``, or a document without a prediction.
    """
    label = label_of(document, only_annotated=True, min_agreement=1)
    return label.text if isinstance(label, Label) else None


def misreading(read: str, *, right: str) -> Misreading:
    """Compare a prediction with a right text."""
    collapsed = collapse(read)
    return Misreading(collapsed, character_errors(right=right, read=collapsed).errors)


async def annotated(
    images: ImageRepository, bucket: str, *, fields: Mapping[str, int] = FIELDS
) -> AsyncIterator[list[tuple[ImageDocument, str]]]:
    """Yield predicted images with their right texts, some at a time, in the order of their hashes.

    Args:
        images: The collection.
        bucket: Whose images count.
        fields: Of documents; at least ``FIELDS``.

    Raises:
        IndexUnavailableError: MongoDB does not answer.
    """
    where = {"bucket": bucket, "status": "predicted", "annotation": {"$ne": None}}
    async for page in paginate(images, where, by_sha256(), fields=fields):
        yield [(each, right) for each in page.documents if (right := right_text(each)) is not None]
