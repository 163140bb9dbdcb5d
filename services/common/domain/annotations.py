"""Annotations: normalisation and validation of texts by people and lists."""

import re
import unicodedata
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import StrEnum

from services.common.domain.errors import PermanentError
from services.common.domain.records import BY_BATCH, UNKNOWN_HOW, Annotation, How, Quality
from services.common.domain.texts import Text

NORMALISATION = 2
"""Version of ``normalise``; stored with every annotation and named in every export. Version 1 was
plain NFC, which replaces CJK compatibility ideographs; it is the default of old annotations."""

Replaces = Callable[[Annotation], bool]
"""Whether an existing annotation may be replaced."""

MAX_ANNOTATION_LENGTH = 10_000
"""Characters of one line's text."""

_CONTROL = frozenset({"Cc", "Cs"})
"""Unicode categories that are not allowed (UAX 44, table 12); format characters are, as some
scripts need them."""
_COMPATIBILITY_IDEOGRAPHS = re.compile("([\uf900-\ufaff\U0002f800-\U0002fa1f]+)")
"""NFC replaces them by unified ideographs (Unicode 17, chapter 18), which look different: variants
in names of people and places."""
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BYTE_ORDER_MARK = "\ufeff"
"""Never part of a text: the word joiner has replaced its other meaning (Unicode 3.2)."""


class AnnotationOutcome(StrEnum):
    """Outcome of saving an annotation."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    CONFLICT = "conflict"
    """The image has another one, which is kept."""
    UNKNOWN = "unknown"
    """The image does not exist, was removed, or has other bytes now."""


class UnacceptableAnnotationError(PermanentError):
    """The annotation is invalid."""

    code = "invalid_annotation"


def is_same(one: Annotation, other: Annotation) -> bool:
    """Whether two annotations say the same of an image."""
    return (collapse(one.text), one.quality) == (collapse(other.text), other.quality)


def compose(text: str) -> str:
    """Return text in NFC, except that CJK compatibility ideographs stay; idempotent."""
    # Ideographs neither reorder nor compose with neighbours: parts are independent
    parts = _COMPATIBILITY_IDEOGRAPHS.split(text)
    return "".join(
        part if place % 2 else unicodedata.normalize("NFC", part)
        for place, part in enumerate(parts)
    )


def collapse(text: str) -> str:
    """Return text in the form of ``normalise``, without validation; idempotent."""
    return compose(" ".join(text.replace(_BYTE_ORDER_MARK, "").split()))


def as_typed(text: str) -> str:
    """Return text without (invisible) control characters."""
    return _CONTROL_CHARACTERS.sub(" ", text)


def in_words(annotation: Annotation | None) -> str:
    """Return what an annotation says, as a form tells which one its page has shown."""
    return "" if annotation is None else f"{annotation.quality} {as_typed(annotation.text)}"


def normalise(text: str) -> str:
    """Return the form in which texts are stored, compared and exported.

    Version 2: composed characters (see ``compose``); white space is collapsed and stripped; no byte
    order mark. Case, punctuation and compatibility characters are unchanged, as the image shows
    them.

    Raises:
        UnacceptableAnnotationError: It has a control character, or is too long.
    """
    # Before white space is collapsed, which in Python includes the separators of ASCII
    strange = next((each for each in text if _is_control(each)), None)
    if strange is not None:
        values = {"code": f"U+{ord(strange):04X}"}
        raise UnacceptableAnnotationError(
            Text("text contains a control character: %(code)s", values)
        )
    collapsed = collapse(text)
    if len(collapsed) > MAX_ANNOTATION_LENGTH:
        message = Text("text has more than %(most)s characters", {"most": MAX_ANNOTATION_LENGTH})
        raise UnacceptableAnnotationError(message)
    return collapsed


def to_annotation(
    text: str | None,
    quality: str | None = None,
    *,
    by: str,
    at: datetime | None = None,
    origin: str = "",
    how: How | None = None,
) -> Annotation:
    """Validate a person's annotation.

    Raises:
        UnacceptableAnnotationError: The text is invalid, or missing with quality ok; the quality
            is unknown, or the name is reserved for lists.
    """
    known = (quality or "").strip().lower() or Quality.OK.value
    if known not in set(Quality):
        message = Text("quality must be one of %(names)s", {"names": ", ".join(Quality)})
        raise UnacceptableAnnotationError(message)
    name = normalise(by)
    if not name or name.startswith(BY_BATCH):
        message = Text("name must not be empty or start with '%(prefix)s'", {"prefix": BY_BATCH})
        raise UnacceptableAnnotationError(message)
    normalised = normalise(text or "")
    if known == Quality.OK and not normalised:
        raise UnacceptableAnnotationError(Text("text must not be empty if the quality is ok"))
    annotation = Annotation(
        text=normalised,
        quality=Quality(known),
        by=name,
        at=at or datetime.now(tz=UTC),
        normalisation=NORMALISATION,
    )
    known_too = {"origin": origin, "how": how}
    return annotation.having(**{name: value for name, value in known_too.items() if value})


def how_given(annotation: Annotation, shown: Iterable[str], read: Iterable[str]) -> How | None:
    """Return how a person came to a text.

    Args:
        annotation: The person's.
        shown: Predictions that they were shown.
        read: Texts that models have read in the image.

    Returns:
        None if they were shown what no model has read here, or have not transcribed the image.
    """
    seen = {collapse(as_typed(each)) for each in shown}
    is_read = seen <= {collapse(as_typed(each)) for each in read}
    if annotation.quality is not Quality.OK or not is_read:
        return None
    if annotation.text in seen:
        return How.ACCEPTED
    return How.CORRECTED if any(seen) else How.TRANSCRIBED


def given_annotation(text: str, *, batch: str, at: datetime, how: str | None = None) -> Annotation:
    """Return the annotation of a text from a list or an object.

    A control character in it is kept, but excludes the image from exports.

    Args:
        text: As received.
        batch: Id of the batch, or its substitute.
        at: Time of the annotation.
        how: Of a text from an export: how it came about there.
    """
    return Annotation(
        text=collapse(text),
        quality=Quality.OK,
        by=f"{BY_BATCH}{batch}",
        at=at,
        how=None if how == UNKNOWN_HOW else How(how or How.GIVEN),
        normalisation=NORMALISATION,
    )


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in _CONTROL and character not in "\t\n\r\v\f\x85"
