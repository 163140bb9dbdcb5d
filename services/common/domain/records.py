"""The parts of an image's document: frozen values that keep what they do not know.

A field that was never set is not written, and a field of another version of this project is kept:
a value goes back to MongoDB as it came from there.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

BY_BATCH = "batch:"
"""Begins ``Annotation.by`` of a text that came with a list; any other value is a person's."""


class Record(BaseModel):
    """Base of the frozen values of a document."""

    model_config = ConfigDict(
        frozen=True, extra="allow", populate_by_name=True, use_attribute_docstrings=True
    )

    def having(self, **changes: object) -> Self:
        """Return a copy with other values of some fields; they are not validated.

        Raises:
            TypeError: There is no such field.
        """
        if unknown := changes.keys() - type(self).model_fields.keys():
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        return self.model_copy(update=changes)

    def to_mongo(self, only: set[str] | None = None) -> dict[str, Any]:
        """Return the fields that are set, all or some of them, as MongoDB stores them."""
        return self.model_dump(include=only, by_alias=True, exclude_unset=True)


class Quality(StrEnum):
    """What a person says of an image."""

    OK = "ok"
    UNREADABLE = "unreadable"
    NOT_A_LINE = "not_a_line"


def required(*names: str) -> ConfigDict:
    """Say which fields every document in MongoDB has; a projection may leave them out."""
    return ConfigDict(json_schema_extra={"required": list(names)})


class Annotation(Record):
    """What a person, or a list, says that an image reads."""

    model_config = required("text", "quality", "by", "at")

    text: str = ""
    """Normalised; may be empty unless the quality is ok."""
    quality: Quality = Quality.OK
    by: str = ""
    """A person, or ``batch:`` and the id of the batch that the text came with."""
    at: datetime | None = None
    normalisation: int | None = None
    """Version of ``annotations.normalise`` that the text went through; missing: version 1."""
    origin: str = ""
    """Address of where it was said, outside this project."""
    bytes_replaced_at: datetime | None = None
    """Of an earlier annotation: when the bytes that it is of gave way to others under the key."""
    disputed_at: datetime | None = None
    """Of an earlier annotation: when lists were found to differ about a placeholder."""
    undone_at: datetime | None = None
    """Of an earlier annotation: when it was taken back."""

    @property
    def is_given(self) -> bool:
        """Whether it came with a list, and no person has looked at the image."""
        return self.by.startswith(BY_BATCH)

    @property
    def has_ended(self) -> bool:
        """Whether it never becomes valid again."""
        return bool(self.undone_at or self.bytes_replaced_at or self.disputed_at)

    def matches(self, **values: object) -> bool:
        """Return whether these fields have these values."""
        return all(getattr(self, name) == value for name, value in values.items())


class Prediction(Record):
    """What a model has read in an image."""

    model_config = required("text", "score", "engine", "model_version", "predicted_at")

    text: str = ""
    score: float = Field(0.0, json_schema_extra={"minimum": 0, "maximum": 1})
    engine: str | None = None
    model_version: str | None = None
    predicted_at: datetime | None = None
    duration_ms: float | None = None

    @property
    def model(self) -> str:
        """Engine and version, as people and Label Studio are shown them."""
        return f"{self.engine} {self.model_version}"

    def is_like(self, other: "Prediction") -> bool:
        """Return whether the same model has read the same text."""
        mine, theirs = ((each.model_version, each.engine, each.text) for each in (self, other))
        return mine == theirs


class Rejection(Record):
    """Why an image can't be read."""

    model_config = required("code", "detail")

    code: str | None = None
    detail: str | None = None


UPLOADED = "(uploaded)"
"""Shown in place of a source that is not known, or of the host of one that has no URL."""


class Source(Record):
    """One way that an image came here by."""

    kind: str | None = None
    """``url``, ``archive``, ``folder``, ``upload``, ``console``, ``api`` or ``page``."""
    collection: str | None = None
    name: str | None = None
    """File name or member path, as given."""
    url: str | None = None
    batch_id: str | None = None
    fetched_at: datetime | None = None
    group: str | None = None
    """The document, page or writer that the image is a part of."""
    split: str | None = None
    """``train``, ``validation`` or ``test``, where the data set says so."""
    metadata: dict[str, JsonValue] | None = None
    licence: str | None = None
    at: datetime | None = None
    by: str | None = None

    @property
    def origin(self) -> str:
        """Where from, for people: the URL, or the name within the collection."""
        return self.url or ": ".join(filter(None, (self.collection, self.name or self.kind)))

    @property
    def came_at(self) -> datetime | None:
        """When it led here: earlier versions wrote ``fetched_at``."""
        return self.at or self.fetched_at
