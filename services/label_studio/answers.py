"""Convert Label Studio's annotations of a task."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.common.domain.annotations import (
    Replaces,
    UnacceptableAnnotationError,
    to_annotation,
)
from services.common.domain.records import Annotation, Quality, to_milliseconds
from services.label_studio import schemas
from services.label_studio.schemas import StudioTask
from services.label_studio.tasks import QUALITY, TEXT

MAX_RESULTS = 100
"""Limit of results in one annotation; the project's configuration allows two."""
MAX_NAME_LENGTH = 200


class _Value(BaseModel):
    model_config = ConfigDict(extra="ignore")

    text: list[str] | str = Field(default_factory=list)
    choices: list[str] = Field(default_factory=list)


class _Result(BaseModel):
    model_config = ConfigDict(extra="ignore")

    from_name: str = ""
    value: _Value = Field(default_factory=_Value)


def latest(task: StudioTask) -> schemas.StudioAnnotation | None:
    """Return the valid annotation: a ground truth, otherwise the latest; None: none.

    Skipped tasks do not count.
    """
    said = [each for each in task.annotations if not each.was_cancelled]
    return max(said, key=lambda each: (each.ground_truth, each.updated_at, each.id), default=None)


def from_label_studio(said: schemas.StudioAnnotation, name: str, origin: str) -> Annotation:
    """Convert an annotation.

    Raises:
        UnacceptableAnnotationError: It does not match the project's configuration.
    """
    if len(said.result) > MAX_RESULTS:
        raise UnacceptableAnnotationError(f"more than {MAX_RESULTS} results")
    try:
        results = _results(said.result)
    except ValidationError as error:
        raise UnacceptableAnnotationError("a result is not in Label Studio's form") from error
    qualities = [each for one in results if one.from_name == QUALITY for each in one.value.choices]
    if len(qualities) > 1:
        raise UnacceptableAnnotationError("more than one quality")
    quality = qualities[0] if qualities else Quality.OK.value
    text = _text(results) if quality == Quality.OK else ""
    at = to_milliseconds(said.updated_at)
    return to_annotation(text, quality, by=name[:MAX_NAME_LENGTH], at=at, origin=origin)


def shown_in(task: StudioTask) -> list[str] | None:
    """Return the predictions that people were shown in a task; None: it is not known which."""
    if task.predictions is None:
        return None
    try:
        said = [schemas.StudioPrediction.model_validate(each) for each in task.predictions]
        return [_text(_results(each.result)) for each in said]
    except (ValidationError, UnacceptableAnnotationError):
        return None  # not this project's predictions


def replaces(annotation: Annotation, site: str, *, overwrite: bool, is_listed: bool) -> Replaces:
    """Return which annotations this one may replace.

    Of the same task: all, as Label Studio knows the valid one. Of another task: earlier ones. Of
    other origins: none, or earlier ones with ``overwrite``.

    Args:
        annotation: The one to write.
        site: Common prefix of the origins of this Label Studio.
        overwrite: Whether annotations of other origins are replaced.
        is_listed: Whether it comes from a listing, which is some seconds old: later annotations of
            the same task are kept.
    """

    def may_replace(current: Annotation) -> bool:
        is_earlier = bool(current.at and annotation.at and current.at < annotation.at)
        if current.origin == annotation.origin:
            return is_earlier or not is_listed
        return is_earlier and (overwrite or current.origin.startswith(site))

    return may_replace


def _results(said: list[Any]) -> list[_Result]:
    return [_Result.model_validate(each) for each in said]


def _text(results: list[_Result]) -> str:
    texts = [one.value.text for one in results if one.from_name == TEXT]
    lines = [line for text in texts for line in ([text] if isinstance(text, str) else text)]
    if len(lines) > 1:
        raise UnacceptableAnnotationError("more than one text")
    return lines[0] if lines else ""
