"""The parts of an image document: frozen values that keep unknown fields.

Unset fields are not written, and fields of other versions of this project are kept, so a value
round-trips through MongoDB unchanged.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from services.common.domain.texts import Text
from services.common.domain.trained_models import CALIBRATION_MARK

BY_BATCH = "batch:"
"""Prefix of ``Annotation.by`` of a list's text; other values are people."""


EMPTY_IF_NULL = BeforeValidator(lambda value: () if value is None else value)


def first_problem(error: ValidationError, *, whole: str = "") -> str:
    """Return place and text of the first problem, without the input, which may be secret.

    Args:
        error: Of pydantic.
        whole: The place, where the input as a whole is wrong.
    """
    problem = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"]) or whole
    return f"{where}: {problem['msg']}"


def to_milliseconds(moment: datetime) -> datetime:
    """Return a time as MongoDB stores it, so that it is equal to itself in a document."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class Record(BaseModel):
    """Base of the frozen values of a document."""

    model_config = ConfigDict(
        frozen=True, extra="allow", populate_by_name=True, use_attribute_docstrings=True
    )

    def having(self, **changes: object) -> Self:
        """Return a copy with changed fields, without validation.

        Raises:
            TypeError: There is no such field.
        """
        if unknown := changes.keys() - type(self).model_fields.keys():
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        return self.model_copy(update=changes)

    def matches(self, **values: object) -> bool:
        """Return whether these fields have these values."""
        return all(getattr(self, name, None) == value for name, value in values.items())

    def to_mongo(self, only: set[str] | None = None) -> dict[str, Any]:
        """Return all or some of the set fields, as stored in MongoDB."""
        return self.model_dump(include=only, by_alias=True, exclude_unset=True)


class StoredRecord(Record):
    """A document of a collection that several processes write.

    Where MongoDB has none, it is ``absent``; where only some fields were asked for, the others have
    their defaults.
    """

    model_config = ConfigDict(extra="ignore")

    id: str = Field(alias="_id")
    """``bucket/key``."""
    revision: int | None = None
    """Number of changes; a writer whose number is not the latest decides again."""

    @classmethod
    def absent(cls, document_id: str) -> Self:
        """Return what stands for a document that is not there."""
        return cls(id=document_id)

    @property
    def exists(self) -> bool:
        """Whether MongoDB has it: every document there has a status."""
        return getattr(self, "status", None) is not None


class Quality(StrEnum):
    """Quality of an image, judged by a person."""

    OK = "ok"
    UNREADABLE = "unreadable"
    NOT_A_LINE = "not_a_line"
    CUT_WRONG = "cut_wrong"
    """A part of the line is missing, or it is several lines."""


class How(StrEnum):
    """Origin of an annotation's text."""

    GIVEN = "given"
    """With a list or a file."""
    ACCEPTED = "accepted"
    """A person saved a prediction as it was shown to them."""
    CORRECTED = "corrected"
    """A person was shown a prediction, and wrote another text."""
    TRANSCRIBED = "transcribed"
    """A person wrote it, and was shown no prediction."""


UNKNOWN_HOW = "unknown"
"""Shown of an annotation of which it is not known how its text came about."""


def required(*names: str) -> ConfigDict:
    """Mark the fields of every stored document as required; projections may omit them.

    MongoDB then refuses documents without them, also those of writers of an earlier version.
    """
    return ConfigDict(json_schema_extra={"required": list(names)})


class Confirmation(Record):
    """Person who found a suspect annotation right."""

    model_config = required("by", "at")

    by: str = ""
    at: datetime | None = None


class Annotation(Record):
    """Text of an image by a person or a list."""

    model_config = required("text", "quality", "by", "at")

    text: str = ""
    """Normalised; may be empty unless the quality is ok."""
    quality: Quality = Quality.OK
    by: str = ""
    """A person, or ``batch:`` and the id of the text's batch."""
    at: datetime | None = None
    how: How | None = None
    """None: there is no text, or nothing proves which prediction the person was shown."""
    normalisation: int | None = None
    """Version of ``annotations.normalise`` applied to the text; missing: version 1."""
    origin: str = ""
    """URL of the annotation outside this project."""
    confirmed: Confirmation | None = None
    """A confirmed annotation is no longer suspect."""
    bytes_replaced_at: datetime | None = None
    """Of an earlier annotation: when its bytes were replaced under the key."""
    disputed_at: datetime | None = None
    """Of an earlier annotation: when lists were found to conflict about a placeholder."""
    undone_at: datetime | None = None
    """Of an earlier annotation: when it was reverted."""

    @property
    def is_given(self) -> bool:
        """Whether it came with a list, unchecked by a person."""
        return self.came_with_list and self.confirmed is None

    @property
    def came_with_list(self) -> bool:
        """Whether a list or a file has brought it, not a person."""
        return self.by.startswith(BY_BATCH)

    @property
    def known_how(self) -> How | None:
        """Origin of its text; where a list's has no such field, an earlier version wrote it."""
        is_missing = "how" not in self.model_fields_set
        return How.GIVEN if is_missing and self.came_with_list else self.how

    @property
    def has_ended(self) -> bool:
        """Whether it can't become valid again."""
        return bool(self.undone_at or self.bytes_replaced_at or self.disputed_at)


class Prediction(Record):
    """A model's reading of an image."""

    model_config = required("text", "score", "engine", "model_version", "predicted_at")

    text: str = ""
    score: float = Field(0.0, json_schema_extra={"minimum": 0, "maximum": 1})
    expected_cer: float | None = None
    """Expected character error rate; absent where it is not known."""
    engine: str | None = None
    model_version: str | None = None
    predicted_at: datetime | None = None
    duration_ms: float | None = None

    @property
    def model(self) -> str:
        """Engine and version, for display and Label Studio."""
        return f"{self.engine} {self.model_version}"

    @property
    def is_calibrated(self) -> bool:
        """Whether the score is a probability; a model's own is higher, and not comparable."""
        return CALIBRATION_MARK in str(self.model_version)

    @property
    def score_in_words(self) -> Text:
        """The score, and whether it is calibrated."""
        score = {"score": self.score}
        if self.is_calibrated:
            return Text("score %(score)s", score)
        return Text("score %(score)s, not calibrated", score)

    def is_like(self, other: "Prediction") -> bool:
        """Return whether model and text are the same."""
        mine, theirs = ((each.model_version, each.engine, each.text) for each in (self, other))
        return mine == theirs


class Rejection(Record):
    """Reason why an image can't be read."""

    model_config = required("code", "detail")

    code: str | None = None
    detail: str | None = None


UPLOADED = "(uploaded)"
"""Shown for an unknown source, or as the host of one without URL."""


class Source(Record):
    """One source of an image."""

    kind: str | None = None
    """``url``, ``archive``, ``folder``, ``upload``, ``console``, ``api`` or ``page``."""
    collection: str | None = None
    name: str | None = None
    """File name or member path, as given."""
    url: str | None = None
    batch_id: str | None = None
    fetched_at: datetime | None = None
    group: str | None = None
    """The document, page or writer of the image."""
    split: str | None = None
    """``train``, ``validation`` or ``test``, if the data set specifies it."""
    metadata: dict[str, JsonValue] | None = None
    licence: str | None = None
    at: datetime | None = None
    by: str | None = None

    @property
    def origin(self) -> str:
        """The URL, or the name within the collection, for display."""
        return self.url or ": ".join(filter(None, (self.collection, self.name or self.kind)))

    @property
    def host(self) -> str | None:
        """Host of the URL, with its port if the URL has one; None if there is no valid URL."""
        try:
            address = urlsplit(self.url or "").netloc
        except ValueError:  # metadata of uploads is untrusted
            return None
        return address.rpartition("@")[2].lower() or None

    @property
    def length(self) -> int:
        """Length as JSON, about."""
        return sum(len(str(value)) for value in vars(self).values() if value is not None)

    @property
    def came_at(self) -> datetime | None:
        """Its time; earlier versions wrote ``fetched_at``."""
        return self.at or self.fetched_at
