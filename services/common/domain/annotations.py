"""What a person, or a list, says an image reads: the form of the text, and what is acceptable."""

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum

from services.common.domain.errors import PermanentError
from services.common.domain.records import BY_BATCH, Annotation, Quality

NORMALISATION = 2
"""Version of ``normalise``; stored with every annotation and named in every export. Version 1 was
plain NFC, which replaces CJK compatibility ideographs; an annotation without a version has it."""

Replaces = Callable[[Annotation], bool]
"""Whether an annotation, as it is in its document, may be replaced."""

MAX_ANNOTATION_LENGTH = 10_000
"""Characters of one line's text."""

_CONTROL = frozenset({"Cc", "Cs"})
"""Unicode categories that no text on an image has (UAX 44, table 12); format characters stay:
some scripts are spelled with them."""
_COMPATIBILITY_IDEOGRAPHS = re.compile("([\uf900-\ufaff\U0002f800-\U0002fa1f]+)")
"""NFC replaces them by unified ideographs (Unicode 17, chapter 18), which look different: they are
variants that names of people and places are written with."""
_BYTE_ORDER_MARK = "\ufeff"
"""No part of a text: the word joiner has replaced its other meaning (Unicode 3.2)."""


class Outcome(StrEnum):
    """What became of an annotation."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    CONFLICT = "conflict"
    """The image has another one, which stays."""
    UNKNOWN = "unknown"
    """There is no such image, or it was removed, or its bytes are others now."""


class UnacceptableAnnotationError(PermanentError):
    """The text can't be the annotation of an image."""

    code = "invalid_annotation"


def compose(text: str) -> str:
    """Return text in NFC, except that CJK compatibility ideographs stay; idempotent."""
    # An ideograph neither reorders nor composes with what is beside it: parts are independent
    parts = _COMPATIBILITY_IDEOGRAPHS.split(text)
    return "".join(
        part if place % 2 else unicodedata.normalize("NFC", part)
        for place, part in enumerate(parts)
    )


def collapse(text: str) -> str:
    """Return text in the form of ``normalise``, whatever is in it; idempotent, never fails."""
    return compose(" ".join(text.replace(_BYTE_ORDER_MARK, "").split()))


def normalise(text: str) -> str:
    """Return the form in which texts are stored, compared and exported.

    Version 2: composed characters (see ``compose``); every run of white space is one space, none
    at the ends; no byte order mark. Case, punctuation and compatibility characters stay as they
    are: they are what the image shows.

    Raises:
        UnacceptableAnnotationError: It has a control character, or is too long.
    """
    # Before spaces are made single: Python's white space includes the separators of ASCII
    strange = next((each for each in text if _is_control(each)), None)
    if strange is not None:
        raise UnacceptableAnnotationError(f"there is a control character: U+{ord(strange):04X}")
    collapsed = collapse(text)
    if len(collapsed) > MAX_ANNOTATION_LENGTH:
        raise UnacceptableAnnotationError(f"more than {MAX_ANNOTATION_LENGTH} characters")
    return collapsed


def to_annotation(
    text: str | None,
    quality: str | None = None,
    *,
    by: str,
    at: datetime | None = None,
    origin: str = "",
) -> Annotation:
    """Check what a person says of an image.

    Raises:
        UnacceptableAnnotationError: The text is none, or missing where the quality is ok, the
            quality is unknown, or the name is reserved for lists.
    """
    known = (quality or "").strip().lower() or Quality.OK.value
    if known not in set(Quality):
        raise UnacceptableAnnotationError(f"the quality is none of {', '.join(Quality)}")
    name = normalise(by)
    if not name or name.startswith(BY_BATCH):
        raise UnacceptableAnnotationError(f"a name is not empty and does not begin by {BY_BATCH}")
    normalised = normalise(text or "")
    if known == Quality.OK and not normalised:
        raise UnacceptableAnnotationError("there is no text, and the quality is ok")
    annotation = Annotation(
        text=normalised,
        quality=Quality(known),
        by=name,
        at=at or datetime.now(tz=UTC),
        normalisation=NORMALISATION,
    )
    return annotation.having(origin=origin) if origin else annotation


def given_annotation(text: str, *, batch: str, at: datetime) -> Annotation:
    """Return the annotation of a text that came with a list or an object.

    A control character in it is kept, and excludes it from exports: the image is known already.

    Args:
        text: As it came.
        batch: Id of the batch, or what stands for it.
        at: When it was said.
    """
    return Annotation(
        text=collapse(text),
        quality=Quality.OK,
        by=f"{BY_BATCH}{batch}",
        at=at,
        normalisation=NORMALISATION,
    )


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in _CONTROL and character not in "\t\n\r\v\f\x85"
