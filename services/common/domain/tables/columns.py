"""Detect the columns of a table by names of well-known data sets, or by given names."""

import difflib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

URL_NAMES = (
    *("url", "image_url", "img_url", "source_url", "file_url", "download_url", "original_url"),
    *("imageurl", "originalurl", "image", "img", "link", "href", "uri", "src", "lien"),
)
FILE_NAMES = (
    *("file_name", "filename", "file", "path", "image_path", "img_path", "filepath", "file_path"),
    *("image", "img", "image_name", "img_name", "image_file", "image_id", "name", "fichier", "id"),
)
KEY_NAMES = ("key", "object", "_id")
TEXT_NAMES = (
    *("annotation", "text", "transcription", "transcript", "ground_truth", "gt", "gt_text"),
    *("label", "words", "word", "sentence", "utf8_string", "ocr_text", "texte"),
    *("transcriptions", "labels"),
)
QUALITY_NAMES = ("quality",)
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
        url_column: Name given by a person for ``where``, exclusively.
        text_column: Likewise.
        option: Option to name a column, formatted with ``url`` or ``text``.
    """

    where: tuple[str, ...]
    text: tuple[str, ...] = TEXT_NAMES
    quality: tuple[str, ...] = ()
    needs_text: bool = False
    url_column: str | None = None
    text_column: str | None = None
    option: str = "{}_column"


@dataclass(frozen=True)
class ReadingOptions:
    """Explicit format of a file of rows.

    Args:
        encoding: Of its text; None: detected.
        url_column: Name of the image column; None: a usual name.
        text_column: Name of the text column.
    """

    encoding: str | None = None
    url_column: str | None = None
    text_column: str | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """Identity of this way to read the bytes; empty by default."""
        return tuple(f"{name}={value}" for name, value in asdict(self).items() if value)

    def wanted(self, usual: Wanted) -> Wanted:
        """Return the columns to look for; ``usual`` is the default of those not named."""
        return replace(usual, url_column=self.url_column, text_column=self.text_column)


@dataclass(frozen=True)
class Columns:
    """Places of the columns, from 0."""

    where: int
    text: int | None
    quality: int | None
    names: tuple[str, ...]
    """Names of all columns; empty if the table has none and is read by position."""

    @property
    def used(self) -> dict[str, str]:
        """Names of the columns by role."""
        places = {"image": self.where, "text": self.text, "quality": self.quality}
        return {
            role: self.names[place]
            for role, place in places.items()
            if place is not None and self.names
        }

    @property
    def ignored(self) -> list[str]:
        """Names of unused columns."""
        used = {self.where, self.text, self.quality}
        return [name for place, name in enumerate(self.names) if place not in used]


def plain(name: str) -> str:
    """Return a column's name without case, accents, spaces and parentheses."""
    name = unicodedata.normalize("NFKD", _PARENTHESES.sub("", name).strip().casefold())
    name = "".join(each for each in name if not unicodedata.combining(each))
    return _SEPARATORS.sub("_", name.strip("\ufeff \"'")).rstrip("_") or name


def find_column(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    """Return the index of the first wanted name, ignoring case and spelling."""
    known: dict[str, int] = {}
    for place, name in enumerate(names):
        known.setdefault(plain(name), place)
    return next((known[name] for name in map(plain, wanted) if name in known), None)


def find_columns(names: Sequence[str], wanted: Wanted) -> Columns | None:
    """Return the columns of a header, or None if a required one is missing."""
    where = _place(names, wanted.url_column, wanted.where)
    text = _place(names, wanted.text_column, wanted.text)
    if where is None or (text is None and (wanted.needs_text or wanted.text_column)):
        return None
    if text == where:
        text = None
    return Columns(where, text, find_column(names, wanted.quality), tuple(names))


def _place(names: Sequence[str], given: str | None, known: Sequence[str]) -> int | None:
    if given is None:
        return find_column(names, known)
    return list(names).index(given) if given in names else find_column(names, [given])


def shown(names: Sequence[str]) -> str:
    """Return the columns of a table for a message."""
    some = ", ".join(repr(name[:40]) for name in names[:SHOWN_NAMES])
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return f"its columns are {some}{more}"


def missing(names: Sequence[str], wanted: Wanted) -> str:
    """Describe the missing column, the existing ones and a similar one."""
    has_where = _place(names, wanted.url_column, wanted.where) is not None
    given, known, option = (
        (wanted.text_column, wanted.text, "text")
        if has_where
        else (wanted.url_column, wanted.where, "url")
    )
    if given is not None:
        return f"no column is named {given[:100]!r}; {shown(names)}"
    detail = f"no column is named {', '.join(known[:5])} or alike; {shown(names)}"
    if not has_where and (place := find_column(names, FILE_NAMES)) is not None:
        return (
            f"{detail}. The column {names[place][:100]!r} names files: submit the folder or the "
            "archive that holds them"
        )
    if near := difflib.get_close_matches(known[0], [plain(name) for name in names], 1, 0.5):
        detail += f"; is it {near[0]!r}?"
    return f"{detail}. Name it by {wanted.option.format(option)}"
