"""What Label Studio answers, as far as it is read here; all of it is a stranger's word."""

import re
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

MAX_ANNOTATIONS = 1000
"""Of one task."""
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""JSON may have it; MongoDB and UTF-8 have no form for it."""


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
        """What is known of who it is."""
        return self.email.strip() or f"user {self.id}"


class Annotation(_Answer):
    """What one person said in a task."""

    id: int = Field(ge=1)
    result: list[Any] = Field(default_factory=list)
    completed_by: User | Annotated[int, Field(ge=1)] | None = None
    """Listings have the number only."""
    was_cancelled: bool = False
    """Whether the person skipped the task."""
    ground_truth: bool = False
    updated_at: AwareDatetime


class Task(_Answer):
    """A task; its annotations only where all fields were asked for."""

    id: int = Field(ge=1)
    project: int
    data: dict[str, Any]
    total_annotations: int = 0
    """Those of people who skipped it do not count."""
    annotations: list[Annotation] = Field(default_factory=list, max_length=MAX_ANNOTATIONS)

    @property
    def hides_some(self) -> bool:
        """Whether it has annotations that are not told, or may have some."""
        told = sum(not each.was_cancelled for each in self.annotations)
        return "annotations" not in self.model_fields_set or self.total_annotations > told

    def text(self, name: str) -> str:
        """Return a field of the data that is text, of whole characters; empty where it is none."""
        value = self.data.get(name)
        return value if isinstance(value, str) and not _LONE_SURROGATE.search(value) else ""


class Prediction(_Answer):
    """What a model said in a task."""

    id: int = Field(ge=1)
    model_version: str | None = None


class Page(_Answer):
    """A part of a listing; each item is read for itself, lest one spoil all."""

    items: list[Any] = Field(validation_alias="tasks")


class Projects(_Answer):
    """A page of projects."""

    results: list[Project]
    next: str | None = None


class Webhook(_Answer):
    """Who is told of what happens in a project."""

    id: int = Field(ge=1)
    url: str


class Access(_Answer):
    """What a personal access token is exchanged for."""

    access: str = Field(min_length=1)


def to_task(item: Any) -> Task | None:
    """Return a task of a listing, or None where it is not understood."""
    try:
        return Task.model_validate(item)
    except ValidationError:
        return None
