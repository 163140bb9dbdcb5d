"""What an image is taught to read as: the label of a document, or why it has none.

docs/decisions/0017-labels-and-their-agreement.md has the reasons.
"""

from dataclasses import dataclass
from enum import StrEnum

from services.common.domain.accuracy import similarity
from services.common.domain.annotations import (
    UnacceptableAnnotationError,
    collapse,
    normalise,
)
from services.common.domain.image import ImageDocument
from services.common.domain.records import Quality


class Origin(StrEnum):
    """Who says what an image reads."""

    ANNOTATION = "annotation"
    PREDICTION = "prediction"


class Exclusion(StrEnum):
    """Why a document is not in an export."""

    UNREADABLE = "unreadable"
    NOT_A_LINE = "not_a_line"
    NOT_READ = "not_read"
    """Rejected: no training tool could read it either."""
    NOT_ANNOTATED = "not_annotated"
    SOURCES_DISAGREE = "sources_disagree"
    """A placeholder to which very many URLs lead, whose lists differ about its text."""
    LOW_AGREEMENT = "low_agreement"
    NO_TEXT = "no_text"
    INVALID_TEXT = "invalid_text"


@dataclass(frozen=True)
class Label:
    """What an image reads."""

    text: str
    """Normalised, never empty."""
    origin: Origin
    agreement: float | None
    """Of a predicted label (see ``agreement``); None for an annotation."""


def label_of(
    document: ImageDocument, *, only_annotated: bool, min_agreement: float
) -> Label | Exclusion:
    """Return the label of an image: the annotation, else the prediction where models agree.

    Args:
        document: Of ``images``.
        only_annotated: Whether a prediction is never a label.
        min_agreement: Least agreement of a predicted label, 0 to 1.
    """
    annotation, prediction = document.annotation, document.prediction
    if document.status != "predicted":
        return Exclusion.NOT_READ
    if annotation is not None:
        if annotation.quality is not Quality.OK:
            return Exclusion(annotation.quality)
        return _label(annotation.text, Origin.ANNOTATION, None)
    is_disputed = bool(document.annotation_conflict)
    if only_annotated or is_disputed:
        return Exclusion.SOURCES_DISAGREE if is_disputed else Exclusion.NOT_ANNOTATED
    agreed = agreement(document)
    if prediction is None or agreed < min_agreement:
        return Exclusion.LOW_AGREEMENT
    return _label(prediction.text, Origin.PREDICTION, agreed)


def agreement(document: ImageDocument) -> float:
    """Return how far a prediction is borne out, 0 to 1.

    That is its score, or less where another model version read something else: then the least
    similarity between its text and what another version read last.
    """
    prediction = document.prediction
    if prediction is None:
        return 0.0
    others = {
        each.model_version: each.text
        for each in document.history
        if each.model_version != prediction.model_version
    }
    text = collapse(prediction.text)
    similarities = [similarity(text, collapse(other)) for other in others.values()]
    return min([prediction.score, *similarities])


def _label(text: str, origin: Origin, agreed: float | None) -> Label | Exclusion:
    try:
        normalised = normalise(text)
    except UnacceptableAnnotationError:
        return Exclusion.INVALID_TEXT
    return Label(normalised, origin, agreed) if normalised else Exclusion.NO_TEXT
