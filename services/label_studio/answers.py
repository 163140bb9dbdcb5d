"""What people said in a task, as an annotation of ours."""

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.common.domain.annotations import (
    Replaces,
    UnacceptableAnnotationError,
    to_annotation,
)
from services.common.domain.records import Annotation, Quality
from services.label_studio import schemas
from services.label_studio.schemas import Task
from services.label_studio.tasks import QUALITY, TEXT

MAX_RESULTS = 100
"""Of one annotation: the configuration of the project allows two."""
MAX_NAME_LENGTH = 200


class _Value(BaseModel):
    model_config = ConfigDict(extra="ignore")

    text: list[str] | str = Field(default_factory=list)
    choices: list[str] = Field(default_factory=list)


class _Result(BaseModel):
    model_config = ConfigDict(extra="ignore")

    from_name: str = ""
    value: _Value = Field(default_factory=_Value)


def latest(task: Task) -> schemas.Annotation | None:
    """Return what counts of what people said: a ground truth, else the latest; None: nothing.

    Who skips a task says nothing.
    """
    said = [each for each in task.annotations if not each.was_cancelled]
    return max(said, key=lambda each: (each.ground_truth, each.updated_at, each.id), default=None)


def to_ours(said: schemas.Annotation, name: str, origin: str) -> Annotation:
    """Return an annotation in our form.

    Args:
        said: In Label Studio's.
        name: Who said it.
        origin: Address of the task.

    Raises:
        UnacceptableAnnotationError: It is in no form that the project's configuration gives.
    """
    if len(said.result) > MAX_RESULTS:
        raise UnacceptableAnnotationError(f"more than {MAX_RESULTS} results")
    try:
        results = [_Result.model_validate(each) for each in said.result]
    except ValidationError as error:
        raise UnacceptableAnnotationError("a result is not in Label Studio's form") from error
    qualities = [each for one in results if one.from_name == QUALITY for each in one.value.choices]
    if len(qualities) > 1:
        raise UnacceptableAnnotationError("more than one quality")
    quality = qualities[0] if qualities else Quality.OK.value
    text = _text(results) if quality == Quality.OK else ""
    # MongoDB keeps milliseconds: what is compared with it must not be later by some micro ones
    at = said.updated_at.replace(microsecond=said.updated_at.microsecond // 1000 * 1000)
    return to_annotation(text, quality, by=name[:MAX_NAME_LENGTH], at=at, origin=origin)


def replaces(annotation: Annotation, site: str, *, overwrite: bool, is_listed: bool) -> Replaces:
    """Return which annotations this one replaces.

    Of the same task: Label Studio knows which of its annotations counts. Of another task there: an
    earlier one. Of anybody else: none, or an earlier one where that is wanted.

    Args:
        annotation: The one to write.
        site: Beginning of what all tasks of this Label Studio have as origin.
        overwrite: Whether others' are replaced.
        is_listed: Whether a listing has it, which is some seconds old: what the same task said
            later is not replaced.
    """

    def may_replace(current: Annotation) -> bool:
        is_earlier = bool(current.at and annotation.at and current.at < annotation.at)
        if current.origin == annotation.origin:
            return is_earlier or not is_listed
        return is_earlier and (overwrite or current.origin.startswith(site))

    return may_replace


def _text(results: list[_Result]) -> str:
    texts = [one.value.text for one in results if one.from_name == TEXT]
    lines = [line for text in texts for line in ([text] if isinstance(text, str) else text)]
    if len(lines) > 1:
        raise UnacceptableAnnotationError("more than one text")
    return lines[0] if lines else ""
