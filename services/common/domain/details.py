"""Details of an image in a list beside its text: group, split, licence, metadata."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import date, time
from decimal import Decimal
from math import isfinite
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import JsonValue

from services.common.domain.records import UNKNOWN_HOW, How

MAX_KEYS = 32
"""Keys in the metadata of one source."""
MAX_KEY_LENGTH = 100
MAX_METADATA_BYTES = 8 * 1024
"""Of the metadata of one source, as JSON in UTF-8."""
MAX_NAME_LENGTH = 300
"""Of a group or a licence."""
MAX_PATH_LENGTH = 1000
"""Of the name of an image, or of its collection."""
_MAX_DEPTH = 5
_INT64 = 2**63

Split = Literal["train", "validation", "test"]
_SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_FLAGS = {
    **dict.fromkeys(("1", "true", "yes"), True),
    **dict.fromkeys(("0", "false", "no"), False),
}

PREDICTED = "prediction"
"""``Details.how`` of a text that is a model's, unchecked by a person."""


class JsonNumber(str):
    """A number with its JSON spelling: the text ``1.50`` for a label, otherwise a number."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Details:
    """Details of a source of an image; None if missing."""

    group: str | None = None
    """The document, page or writer of the image."""
    split: Split | None = None
    licence: str | None = None
    metadata: Mapping[str, JsonValue] | None = None
    """Bounded by ``MAX_KEYS`` and ``MAX_METADATA_BYTES``; its keys are MongoDB's."""
    name: str | None = None
    """In an export: as the image was submitted before; so is the collection."""
    collection: str | None = None
    how: str | None = None
    """In an export: how its text came about (``How``, unknown, ``PREDICTED``); None: given."""
    is_page: bool | None = None
    """Whether it is a page to be cut into lines; None: it is an image of a line."""

    def to_fields(self) -> dict[str, Any]:
        """Return the set fields, named as in ``Source``."""
        values = ((name, getattr(self, name)) for name in FIELDS)
        return {name: value for name, value in values if value is not None}

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> Self:
        """Parse fields of a document or a message; ignore others."""
        return cls(**{name: values.get(name) for name in FIELDS})

    def completed_by(self, other: "Details") -> "Details":
        """Merge both; this one takes precedence."""
        if not other.to_fields():
            return self
        both = {**other.to_fields(), **self.to_fields()}
        if self.metadata and other.metadata:
            both["metadata"] = {**other.metadata, **self.metadata}
        return Details(**both)

    def redacted(self, redact: Callable[[str], str]) -> "Details":
        """Redact the URLs in all its texts, also in its metadata."""
        return Details(
            **{name: _redacted(value, redact) for name, value in self.to_fields().items()}
        )

    @property
    def length(self) -> int:
        """Approximate length as JSON, in bytes."""
        names = len(self.group or "") + len(self.licence or "")
        return names + sum(
            len(name) + _length(each) for name, each in (self.metadata or {}).items()
        )


FIELDS = tuple(each.name for each in fields(Details))
ERASED = ("group", "metadata")
"""Fields erased with the texts of a removed image; the others prove where it was from."""
NO_DETAILS = Details()


def to_details(
    said: Mapping[str, object], others: Iterable[tuple[str, object]]
) -> tuple[Details, str]:
    """Parse values of a row; return them and a message about dropped ones (or empty).

    Args:
        said: Values of the fields of ``PARSERS``; others are ignored.
        others: Names and values of metadata.
    """
    metadata: dict[str, JsonValue] = {}
    problems: list[str] = []
    size = 0
    for name, given in _unfolded(others):
        key = to_key(name)
        try:
            value = to_json(given)
        except ValueError as error:
            problems.append(f"{name[:MAX_KEY_LENGTH]!r}: {error}")
            continue
        if value is None:
            continue
        length = len(key.encode()) + _length(value)
        if not 0 < len(key) <= MAX_KEY_LENGTH or len(metadata) >= MAX_KEYS:
            problems.append(f"{name[:MAX_KEY_LENGTH]!r}: its name is too long, or one too many")
        elif size + length > MAX_METADATA_BYTES:
            problems.append(f"{name[:MAX_KEY_LENGTH]!r}: more than {MAX_METADATA_BYTES} bytes")
        else:
            metadata.setdefault(key, value)
            size += length
    known = {name: parse(said.get(name)) or None for name, parse in PARSERS.items()}
    return Details(**known, metadata=metadata or None), "; ".join(problems)


def of_export(record: Mapping[str, Any]) -> Details:
    """Return what an export says of an image; values that it can't have written are left out."""
    details, _ = to_details({**record, "is_page": None}, [("metadata", record.get("metadata"))])
    name, collection = (to_path(record.get(name)) for name in ("name", "collection"))
    how = to_how(record.get("origin"), record.get("how"))
    return replace(details, name=name, collection=collection, how=how)


def to_key(name: str) -> str:
    """Return the name of a column as a key, without dots and dollars (special in MongoDB)."""
    name = name.replace("\0", "").strip("\ufeff \t").replace(".", "_").replace("$", "_")
    return name if is_text(name) else name.encode(errors="replace").decode()


def to_split(value: object) -> Split | None:
    """Return the split named by a value, or None."""
    return _SPLITS.get(value.strip().lower()) if isinstance(value, str) else None


def to_flag(value: object) -> bool | None:
    """Return a value as yes or no, or None if it is neither."""
    if isinstance(value, bool):
        return value
    return _FLAGS.get(value.strip().lower()) if isinstance(value, str) else None


def to_how(origin: object, how: object) -> str | None:
    """Return how the text of an export came about: a prediction, a ``How``, or unknown.

    None: no export says so.
    """
    if origin == PREDICTED:
        return PREDICTED
    if origin is None and not how:
        return None
    return how if isinstance(how, str) and how in set(How) else UNKNOWN_HOW


def to_name(value: object) -> str | None:
    """Return a value as the name of a group or a licence, or None if it is invalid."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | date):
        return None
    name = " ".join(str(value).split())
    return name if 0 < len(name) <= MAX_NAME_LENGTH and is_text(name) else None


def to_path(value: object) -> str | None:
    """Return a value as the name of a file or of a collection, or None where it is none."""
    if not isinstance(value, str) or not value.strip() or not is_text(value):
        return None
    return value if len(value) <= MAX_PATH_LENGTH else None


PARSERS: Mapping[str, Callable[[object], Any]] = MappingProxyType(
    {"group": to_name, "split": to_split, "licence": to_name, "is_page": to_flag}
)
"""Parser of each field that has a column of its own in a table; None: the value is invalid."""


def to_json(value: object, depth: int = 0) -> JsonValue:
    """Convert a value of a table to JSON; None: missing.

    Raises:
        ValueError: It can't be converted.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, Mapping):
        return {to_key(str(name)): to_json(each, depth + 1) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(each, depth + 1) for each in value]
    if isinstance(value, JsonNumber):
        return _number(float(value) if set(value) & set(".eE") or len(value) > 30 else int(value))
    if isinstance(value, str):
        if not is_text(value):
            raise ValueError("not valid Unicode")
        return value if value.strip() else None
    return _scalar(value)


def _scalar(value: object) -> JsonValue:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, date | time):
        return value.isoformat()
    raise ValueError(f"a value of the type {type(value).__name__}")


def _number(value: float) -> JsonValue:
    """Return a number in MongoDB's range, or its text."""
    if isinstance(value, int):
        return value if -_INT64 <= value < _INT64 else str(value)
    return value if isfinite(value) else None


def _length(value: JsonValue) -> int:
    """Return the bytes of a value as JSON, with its quotes, colon and comma."""
    known = (
        len(value.encode())
        if isinstance(value, str)
        else len(json.dumps(value, ensure_ascii=False).encode())
    )
    return known + len('"":"",')


def _redacted(value: Any, redact: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        is_url = value.lstrip().lower().startswith(("http://", "https://"))
        return redact(value) if is_url else value
    if isinstance(value, list):
        return [_redacted(each, redact) for each in value]
    if isinstance(value, dict):
        return {name: _redacted(each, redact) for name, each in value.items()}
    return value


def is_text(value: str) -> bool:
    """Return whether a text can be encoded: JSON may hold lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unfolded(others: Iterable[tuple[str, object]]) -> Iterable[tuple[str, object]]:
    """Yield names and values; those within the column ``metadata``, as exports write it."""
    for name, value in others:
        inner = value
        if name == "metadata" and isinstance(value, str) and value.lstrip().startswith("{"):
            try:
                inner = json.loads(value)
            except (ValueError, RecursionError):
                inner = value
        if name == "metadata" and isinstance(inner, Mapping):
            yield from ((str(key), each) for key, each in inner.items())
        else:
            yield name, value
