"""Choose the training label of an image, or the reason for none.

See docs/decisions/0017-labels-and-their-agreement.md.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.common.domain.accuracy import similarity
from services.common.domain.annotations import (
    UnacceptableAnnotationError,
    collapse,
    normalise,
)
from services.common.domain.double_reading import DoubleState
from services.common.domain.image import ImageDocument
from services.common.domain.records import Annotation, How, Quality


class Origin(StrEnum):
    """Origin of a label."""

    ANNOTATION = "annotation"
    PREDICTION = "prediction"


class Exclusion(StrEnum):
    """Reason to exclude a document from an export."""

    UNREADABLE = "unreadable"
    NOT_A_LINE = "not_a_line"
    CUT_WRONG = "cut_wrong"
    NOT_READ = "not_read"
    """Rejected as unreadable."""
    NOT_ANNOTATED = "not_annotated"
    NOT_CORRECTED = "not_corrected"
    """A person accepted a prediction, or it is not known whether."""
    ANNOTATORS_DIFFER = "annotators_differ"
    """Two people have read it differently, and no reviewer has decided yet."""
    NOT_AGREED = "not_agreed"
    """Not read by two people, or not agreed and not decided."""
    SOURCES_DISAGREE = "sources_disagree"
    """A placeholder of very many URLs, whose lists' texts conflict."""
    LOW_AGREEMENT = "low_agreement"
    NO_TEXT = "no_text"
    NOT_OF_A_PAGE = "not_of_a_page"
    """It is no line of a page whose size is known, and the export is of pages."""
    REPLACED = "replaced"
    """Of a page: a person drew another line in its place, which has a text."""
    INVALID_TEXT = "invalid_text"


@dataclass(frozen=True)
class Label:
    """Training label of an image."""

    text: str
    """Normalised, never empty."""
    origin: Origin
    agreement: float | None
    """Of a predicted label (see ``agreement``); None for an annotation."""


def label_of(
    document: ImageDocument,
    *,
    only_annotated: bool,
    min_agreement: float,
    only_corrected: bool = False,
    only_agreed: bool = False,
) -> Label | Exclusion:
    """Return the label of an image: its annotation, or a prediction of enough agreement.

    Args:
        document: Of ``images``.
        only_annotated: Whether a prediction is never a label.
        min_agreement: Minimum agreement of a predicted label, 0 to 1.
        only_corrected: Whether an accepted prediction is no label.
        only_agreed: Whether only a text that two people typed, or a reviewer chose, is a label.
    """
    annotation, prediction = document.annotation, document.prediction
    if excluded := _excluded(document, only_agreed=only_agreed):
        return excluded
    if annotation is not None:
        return _annotated(annotation, only_corrected=only_corrected)
    is_disputed = bool(document.annotation_conflict)
    if only_annotated or only_corrected or is_disputed:
        return Exclusion.SOURCES_DISAGREE if is_disputed else Exclusion.NOT_ANNOTATED
    agreed = agreement(document)
    if prediction is None or agreed < min_agreement:
        return Exclusion.LOW_AGREEMENT
    return _label(prediction.text, Origin.PREDICTION, agreed)


def is_undecided(copies: Iterable[ImageDocument]) -> bool:
    """Whether two people differ about these bytes, and no reviewer has decided for any copy."""
    states = {each.double_reading.state for each in copies if each.double_reading}
    return DoubleState.DIFFERENT in states and DoubleState.DECIDED not in states


def without_overruled(copies: Sequence[ImageDocument]) -> Sequence[ImageDocument]:
    """Return documents of equal bytes, without texts of lists if a person has judged any of them.

    In one document a person's annotation replaces that of a list.
    """
    others = [each for each in copies if not (each.annotation and each.annotation.is_given)]
    return others if any(each.annotation for each in others) else copies


def agreement(document: ImageDocument) -> float:
    """Return the agreement of a prediction, 0 to 1.

    It is the score, or the smallest similarity to the last text of another model version if that is
    less.
    """
    prediction = document.prediction
    if prediction is None:
        return 0.0
    text = collapse(prediction.text)
    similarities = [similarity(text, collapse(each.text)) for each in document.readings[1:]]
    return min([prediction.score, *similarities])


def _excluded(document: ImageDocument, *, only_agreed: bool) -> Exclusion | None:
    if document.status != "predicted":
        return Exclusion.NOT_READ
    if document.is_undecided:
        return Exclusion.ANNOTATORS_DIFFER
    return None if document.is_read_twice or not only_agreed else Exclusion.NOT_AGREED


def _annotated(annotation: Annotation, *, only_corrected: bool) -> Label | Exclusion:
    if annotation.quality is not Quality.OK:
        return Exclusion(annotation.quality)
    if only_corrected and annotation.known_how in {None, How.ACCEPTED}:
        return Exclusion.NOT_CORRECTED
    return _label(annotation.text, Origin.ANNOTATION, None)


def _label(text: str, origin: Origin, agreed: float | None) -> Label | Exclusion:
    try:
        normalised = normalise(text)
    except UnacceptableAnnotationError:
        return Exclusion.INVALID_TEXT
    return Label(normalised, origin, agreed) if normalised else Exclusion.NO_TEXT
