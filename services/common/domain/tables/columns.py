"""Detect the columns of a table by names of well-known data sets, or by given names."""

import difflib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from services.common.domain.details import (
    MAX_KEY_LENGTH,
    MAX_KEYS,
    NO_DETAILS,
    PARSERS,
    Details,
    to_details,
    to_how,
    to_key,
    to_path,
)

URL_NAMES = (
    *("url", "image_url", "img_url", "source_url", "file_url", "download_url", "original_url"),
    *("imageurl", "originalurl", "image", "img", "link", "href", "uri", "src", "lien"),
)
FILE_NAMES = (
    *("file_name", "filename", "file", "path", "image_path", "img_path", "filepath", "file_path"),
    *("image", "img", "image_name", "img_name", "image_file", "image_id", "name", "fichier", "id"),
)
KEY_NAMES = ("key", "object", "_id")
HASH_NAMES = ("sha256", "hash")
TEXT_NAMES = (
    *("annotation", "text", "transcription", "transcript", "ground_truth", "gt", "gt_text"),
    *("label", "words", "word", "sentence", "utf8_string", "ocr_text", "texte"),
    *("transcriptions", "labels"),
)
QUALITY_NAMES = ("quality",)
ROLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "group": (
            *("group", "group_id", "document", "document_id"),
            *("writer", "writer_id", "page", "page_id"),
        ),
        "split": ("split", "part", "subset"),
        "licence": ("licence", "license"),
        "is_page": ("is_page",),
    }
)
"""Names of the column of each field of ``Details`` that ``PARSERS`` has."""
FAILURE_NAMES = frozenset({"code", "detail", "attempts"})
"""Columns of ``failed.csv``, beside those of a list: no metadata, where all of them are there."""
NAMING = ("name", "collection", "origin", "how")
EXPORT_NAMES = frozenset({*NAMING, "by", "score", "model"})
"""Columns of the tables of an export, beside those of a list: no metadata, where all are there."""
NAMED_FAILURES = FAILURE_NAMES | {*NAMING} - {"origin"}
"""With the columns of ``failed.csv`` that earlier versions did not write."""
NULL = r"\N"
"""NULL in database dumps."""
SHOWN_NAMES = 12
_PARENTHESES = re.compile(r"\([^)]*\)|\[[^]]*\]")
_SEPARATORS = re.compile(r"[\s.\-]+")


@dataclass(frozen=True)
class Wanted:
    """Columns that a reader of tables needs.

    Args:
        where: Names of the image column, in order of preference.
        text: Names of the text column; None: optional.
        needs_text: Whether the text column is required.
        has_details: Whether the other columns are read, too.
        url_column: Name given by a person for ``where``, exclusively.
        text_column: Likewise.
        group: Names of the column of groups.
        group_column: Likewise.
        option: Option to name a column, formatted with ``url`` or ``text``.
        pages: Whether each image is a page.
    """

    where: tuple[str, ...]
    text: tuple[str, ...] = TEXT_NAMES
    quality: tuple[str, ...] = ()
    needs_text: bool = False
    has_details: bool = False
    url_column: str | None = None
    text_column: str | None = None
    group: tuple[str, ...] = ROLES["group"]
    group_column: str | None = None
    option: str = "{}_column"
    pages: bool = False


@dataclass(frozen=True)
class Columns:
    """Places of the columns, from 0."""

    where: int
    text: int | None
    quality: int | None
    names: tuple[str, ...]
    """Names of all columns; empty if the table has none and is read by position."""
    roles: Mapping[str, int] = field(default_factory=dict)
    """Of ``ROLES``, those that the table has."""
    metadata: tuple[int, ...] = ()
    """Columns stored under their own names."""
    naming: tuple[int | None, ...] = ()
    """Of an export, or a ``failed.csv``: the columns ``NAMING``."""

    @property
    def used(self) -> dict[str, str]:
        """Names of the columns by role."""
        places = {"image": self.where, "text": self.text, "quality": self.quality, **self.roles}
        return {
            role.removeprefix("is_"): self.names[place]
            for role, place in places.items()
            if place is not None and self.names
        }

    @property
    def places(self) -> set[int]:
        """Places of all columns that are read."""
        places = (self.where, self.text, self.quality, *self.roles.values(), *self.naming)
        return {*self.metadata, *(place for place in places if place is not None)}

    @property
    def kept(self) -> list[str]:
        """Names of metadata columns."""
        return [self.names[place] for place in self.metadata]

    @property
    def ignored(self) -> list[str]:
        """Names of unused columns."""
        used = self.places
        return [name for place, name in enumerate(self.names) if place not in used]

    def details(self, values: Sequence[object], null: str | None = None) -> tuple[Details, str]:
        """Return the details of a row, and what was dropped and why (empty: nothing).

        An invalid value of a role is metadata.

        Args:
            values: Of all columns.
            null: Text of a missing value, in tables without types.
        """
        if not (self.roles or self.metadata or self.naming):
            return NO_DETAILS, ""
        said = {role: _value(values, place, null) for role, place in self.roles.items()}
        unknown = (self.roles[role] for role, each in said.items() if PARSERS[role](each) is None)
        others = [(self.names[at], _value(values, at, null)) for at in (*self.metadata, *unknown)]
        details, problem = to_details(said, others)
        if self.naming:
            name, collection, origin, how = (_value(values, place, null) for place in self.naming)
            path, folder = to_path(name), to_path(collection)
            details = replace(details, name=path, collection=folder, how=to_how(origin, how))
        return details, problem


def _value(values: Sequence[object], place: int | None, null: str | None) -> object:
    value = values[place] if place is not None and place < len(values) else None
    return None if null is not None and value == null else value


def plain(name: str) -> str:
    """Return a column's name without case, accents, spaces and parentheses."""
    name = unicodedata.normalize("NFKD", _PARENTHESES.sub("", name).strip().casefold())
    name = "".join(each for each in name if not unicodedata.combining(each))
    return _SEPARATORS.sub("_", name.strip("\ufeff \"'")).rstrip("_") or name


def find_column(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    """Return the index of the first wanted name, ignoring case and spelling."""
    return _first(_places(names), wanted)


def _places(names: Sequence[str]) -> dict[str, int]:
    known: dict[str, int] = {}
    for place, name in enumerate(names):
        known.setdefault(plain(name), place)
    return known


def _first(known: Mapping[str, int], wanted: Sequence[str]) -> int | None:
    return next((known[name] for name in map(plain, wanted) if name in known), None)


def find_columns(names: Sequence[str], wanted: Wanted) -> Columns | None:
    """Return the columns of a header, or None if a required one is missing."""
    known = _places(names)
    where = _place(names, known, wanted.url_column, wanted.where)
    text = _place(names, known, wanted.text_column, wanted.text)
    quality = _first(known, wanted.quality)
    if where is None or (text is None and wanted.text_column):
        return None
    columns = Columns(where, None if text == where else text, quality, tuple(names))
    if wanted.has_details:
        columns = _with_details(columns, known, wanted)
    if wanted.group_column and "group" not in columns.roles:
        return None
    has_details = bool(columns.roles.keys() - {"is_page"})
    return None if text is None and wanted.needs_text and not has_details else columns


def _with_details(columns: Columns, known: Mapping[str, int], wanted: Wanted) -> Columns:
    """Add the columns that are neither image nor text; the first of several with a key is used."""
    names, used = columns.names, {columns.where, columns.text, columns.quality}
    found = {role: _first(known, usual) for role, usual in ROLES.items()}
    found["group"] = _place(names, known, wanted.group_column, wanted.group)
    roles = {role: at for role, at in found.items() if at is not None and at not in used}
    used |= {*roles.values()}
    taken = {names[place] for place in used if place is not None}
    naming: tuple[int | None, ...] = ()
    for ours in (FAILURE_NAMES, NAMED_FAILURES, EXPORT_NAMES):
        if set(names) >= ours:
            taken |= ours
            naming = tuple(names.index(each) if each in ours else None for each in NAMING)
    taken |= {"sha256"} if set(names) >= EXPORT_NAMES else set()
    keys: dict[str, int] = {}
    for place, name in enumerate(names):
        is_free = place not in used and name not in taken and len(keys) < MAX_KEYS
        if is_free and 0 < len(key := to_key(name)) <= MAX_KEY_LENGTH:
            keys.setdefault(key, place)
    return replace(columns, roles=roles, metadata=tuple(keys.values()), naming=naming)


def _place(
    names: Sequence[str], known: Mapping[str, int], given: str | None, usual: Sequence[str]
) -> int | None:
    if given is None:
        return _first(known, usual)
    return list(names).index(given) if given in names else _first(known, [given])


def shown(names: Sequence[str]) -> str:
    """Return the columns of a table for a message."""
    some = ", ".join(repr(name[:40]) for name in names[:SHOWN_NAMES])
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return f"its columns are {some}{more}"


def missing(names: Sequence[str], wanted: Wanted) -> str:
    """Describe the missing column, the existing ones and a similar one."""
    known = _places(names)
    has_where = _place(names, known, wanted.url_column, wanted.where) is not None
    has_group = _place(names, known, wanted.group_column, wanted.group) is not None
    given, usual, option = (
        (wanted.url_column, wanted.where, "url")
        if not has_where
        else (wanted.group_column, wanted.group, "group")
        if wanted.group_column and not has_group
        else (wanted.text_column, wanted.text, "text")
    )
    if given is not None:
        return f"no column is named {given[:100]!r}; {shown(names)}"
    detail = f"no column is named {', '.join(usual[:5])} or alike; {shown(names)}"
    if not has_where and (place := _first(known, FILE_NAMES)) is not None:
        return (
            f"{detail}. The column {names[place][:100]!r} names files: submit the folder or the "
            "archive that holds them"
        )
    if near := difflib.get_close_matches(usual[0], list(known), 1, 0.5):
        detail += f"; is it {near[0]!r}?"
    return f"{detail}. Name it by {wanted.option.format(option)}"
