"""Responses of Label Studio: untrusted input, validated per item."""

import re
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

MAX_ANNOTATIONS = 1000
"""Of one task."""
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""Lone surrogates: valid in JSON, but not in UTF-8 or MongoDB."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Project(_Answer):
    """A project."""

    id: int = Field(ge=1)
    title: str


class User(_Answer):
    """An account."""

    id: int = Field(ge=1)
    email: str = ""

    @property
    def name(self) -> str:
        """E-mail address or id, for display."""
        return self.email.strip() or f"user {self.id}"


class StudioAnnotation(_Answer):
    """Annotation of a task."""

    id: int = Field(ge=1)
    result: list[Any] = Field(default_factory=list)
    completed_by: User | Annotated[int, Field(ge=1)] | None = None
    """Listings have only the id."""
    was_cancelled: bool = False
    """Whether the person skipped the task."""
    ground_truth: bool = False
    updated_at: AwareDatetime


class StudioTask(_Answer):
    """A task; with annotations only if all fields were requested."""

    id: int = Field(ge=1)
    project: int
    data: dict[str, Any]
    total_annotations: int = 0
    """Without skipped ones."""
    annotations: list[StudioAnnotation] = Field(default_factory=list, max_length=MAX_ANNOTATIONS)
    predictions: list[Any] | None = None
    """None: it is not said which there are."""

    @property
    def hides_some(self) -> bool:
        """Whether it has, or may have, annotations that are not listed."""
        told = sum(not each.was_cancelled for each in self.annotations)
        return "annotations" not in self.model_fields_set or self.total_annotations > told

    def text(self, name: str) -> str:
        """Return a text field of the data; empty if it is not valid text."""
        value = self.data.get(name)
        return value if isinstance(value, str) and not _LONE_SURROGATE.search(value) else ""


class StudioPrediction(_Answer):
    """Prediction of a task."""

    id: int = Field(ge=1)
    model_version: str | None = None
    result: list[Any] = Field(default_factory=list)


class StudioPage(_Answer):
    """A page of a listing; items are validated one by one."""

    items: list[Any] = Field(validation_alias="tasks")


class Projects(_Answer):
    """A page of projects."""

    results: list[Project]
    next: str | None = None


class Webhook(_Answer):
    """Webhook of a project."""

    id: int = Field(ge=1)
    url: str


class Access(_Answer):
    """Access token obtained for a personal access token."""

    access: str = Field(min_length=1)


def to_task(item: Any) -> StudioTask | None:
    """Return a task of a listing, or None if it is invalid."""
    try:
        return StudioTask.model_validate(item)
    except ValidationError:
        return None
