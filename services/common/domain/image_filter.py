"""Filters of images: limits of every export, and further conditions of queries."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from services.common.domain.double_reading import DoubleState
from services.common.domain.image import Status
from services.common.domain.records import Quality, Source
from services.common.domain.texts import Text

PRESENT: tuple[Status, ...] = ("predicted", "rejected")
"""Statuses of images that are in the bucket."""
METADATA = "metadata."
_LONGEST_INTEGER = 2**63


def _none_if_blank(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _conditions(values: tuple[str, ...]) -> tuple[str, ...]:
    given = tuple(dict.fromkeys(value for value in values if value.strip()))
    keys = Counter(metadata_condition(value)[0] for value in given)
    if several := [key for key, count in keys.items() if count > 1]:
        message = Text(
            "%(key)s has several values; give one condition per key",
            {"key": METADATA + several[0]},
        )
        raise ValueError(message)
    return given


def _in_utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


Name = Annotated[str | None, BeforeValidator(_none_if_blank)]
Time = Annotated[datetime | None, BeforeValidator(_none_if_blank), AfterValidator(_in_utc)]


class Limits(BaseModel):
    """Limits of a command, a page or an export.

    Collection, batch, group and metadata must match the same source of an image.
    """

    model_config = ConfigDict(frozen=True)

    collection: Name = None
    batch: Name = None
    group: Name = None
    where: Annotated[tuple[str, ...], AfterValidator(_conditions)] = ()
    """``metadata.KEY=VALUE`` each, once per key."""
    since: Time = None
    """Only images stored at this time or later."""
    until: Time = None
    """Only images stored before this time."""

    @property
    def metadata(self) -> dict[str, list[str | int | float | bool]]:
        """Wanted values by path of the key."""
        return dict(map(metadata_condition, self.where))

    def first(self, sources: Iterable[Source]) -> list[Source]:
        """Return sources, those that match all limits first."""
        return sorted(sources, key=lambda each: not self.match(each))

    def match(self, source: Source) -> bool:
        """Whether a source has the collection, batch, group and metadata."""
        names = ((self.collection, source.collection), (self.batch, source.batch_id))
        return all(
            limit in {None, value} for limit, value in (*names, (self.group, source.group))
        ) and all(
            _has(source.metadata, path.split("."), values) for path, values in self.metadata.items()
        )

    @property
    def words(self) -> str:
        """Displayed form: ``collection letters, metadata.year=1916``; empty without a limit."""
        names = ("collection", "batch", "group", "since", "until")
        given = ((name, getattr(self, name)) for name in names)
        return ", ".join((*(f"{name} {value}" for name, value in given if value), *self.where))


NO_LIMITS = Limits()


def metadata_condition(text: str) -> tuple[str, list[str | int | float | bool]]:
    """Parse ``metadata.KEY=VALUE``; return the key and the possible values.

    ``1916`` is the number and the text, ``true`` the truth value and the text.

    Raises:
        ValueError: It is invalid.
    """
    key, equals, value = text.partition("=")
    path = key.strip().removeprefix(METADATA)
    parts = path.split(".")
    if not (equals and key.strip().startswith(METADATA)) or not all(map(_is_name, parts)):
        message = Text(
            "%(text)s is not a condition; write metadata.KEY=VALUE", {"text": repr(text)}
        )
        raise ValueError(message)
    values: list[str | int | float | bool] = [value]
    try:
        typed = json.loads(value)
    except (ValueError, RecursionError):
        return path, values
    if isinstance(typed, int | float) and -_LONGEST_INTEGER <= typed < _LONGEST_INTEGER:
        values.append(typed)
    return path, values


def _has(value: object, path: list[str], wanted: list[str | int | float | bool]) -> bool:
    """Whether there is a wanted value at a path, of an array in any element, as for MongoDB."""
    if isinstance(value, list):
        return any(_has(each, path, wanted) for each in value)
    if path:
        return isinstance(value, dict) and _has(value.get(path[0]), path[1:], wanted)
    is_truth = isinstance(value, bool)
    return any(value == each and is_truth == isinstance(each, bool) for each in wanted)


def _is_name(part: str) -> bool:
    return part.isprintable() and bool(part) and not part.startswith("$")


@dataclass(frozen=True)
class ImageFilter:
    """Filter of images: all set fields must match.

    ``adapters.image_repository`` converts it to a query.
    """

    limits: Limits = NO_LIMITS
    bucket: str | None = None
    ids: frozenset[str] | None = None
    hashes: frozenset[str] | None = None
    """SHA-256 of their bytes."""
    pages: frozenset[str] | None = None
    """``_id`` of pages that they are lines of."""
    urls: frozenset[str] | None = None
    """Of a source, like ``host``, ``name`` and the limits."""
    url_pattern: str | None = None
    """Regular expression."""
    host: str | None = None
    name: str | None = None
    name_pattern: str | None = None
    """Regular expression."""
    status: tuple[Status, ...] = ()
    """Any of these."""
    annotated: bool | Quality | None = None
    """Whether annotated, or the quality."""
    double: tuple[DoubleState, ...] = ()
    """Any of these states of a double reading."""
    reader: str | None = None
    """A person who is one of two readers."""
    not_reader: str | None = None
    """A person who is none of them."""
    is_labelled: bool = False
    """Annotated, or lists' texts conflict."""
    text: str | None = None
    """Part of prediction, annotation, key, or a source's name or URL, ignoring case."""
    scores: tuple[float, float] | None = None
    """Bounds."""
    changed_since: datetime | None = None
    read_by: str | None = None
    """The model version of the last prediction."""
    not_read_by: str | None = None
    """A model version other than the last prediction's."""
    is_stored: bool = False
    """Whether the object existed when the document was written."""
    is_placeholder: bool = False
