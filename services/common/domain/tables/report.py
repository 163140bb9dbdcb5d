"""Rows of a table, and the report of its reading: nothing is dropped silently."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pydantic import ConfigDict

from services.common.domain.details import MAX_KEYS, NO_DETAILS, PREDICTED, Details
from services.common.domain.tables.columns import TEXT_NAMES, Columns, plain
from services.common.domain.tables.records import Damaged

AS_DESCRIPTIONS = ConfigDict(use_attribute_docstrings=True)
"""For the schemas in which reports are."""
MAX_NOTES = 100
MAX_DAMAGED = 10_000
"""Unreadable rows after which a table is given up if they are the majority."""
MAX_TABLES = 100
"""Reported tables of an archive, which may have one for each image."""
MAX_COLUMNS = 50
"""Reported names of columns, where each row has its own."""


class TableGivenUpError(ValueError):
    """Most rows can't be read."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """An image and its text, from one row."""

    line: int
    where: str
    text: str | None
    quality: str | None = None
    details: Details = NO_DETAILS


@dataclass(frozen=True, slots=True)
class Note:
    """A warning about an accepted row, or about an ignored text."""

    __pydantic_config__: ClassVar = AS_DESCRIPTIONS

    line: int
    """From 1; 0: the table as a whole."""
    code: str
    """``cells_joined``: the text had unquoted separators. ``duplicate_column``: only the first
    column of that name is read. ``metadata_dropped``: a value was not stored.
    ``prediction_dropped``: the text of an export is a model's. ``text_of_page``: only lines have
    texts. Of archives and folders also ``no_such_image``, ``no_ground_truth``, ``texts_disagree``,
    ``metadata_disagrees``, or the code of a damaged row."""
    detail: str
    member: str | None = None
    """Path of the table, in an archive or a folder."""


@dataclass
class Report:
    """Reading report: all detected and ignored parts of a table; complete after the last row."""

    __pydantic_config__: ClassVar = AS_DESCRIPTIONS

    encoding: str | None = None
    separator: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    """Names of used columns by role; empty without a header."""
    metadata_columns: list[str] = field(default_factory=list)
    """Names of columns stored as metadata."""
    ignored_columns: list[str] = field(default_factory=list)
    skipped_lines: int = 0
    """Lines above the header: titles, comments."""
    rows: int = 0
    """Of an archive: its images."""
    with_text: int = 0
    """Rows, or images, that have an annotation."""
    damaged: int = 0
    """Rows that can't be read."""
    blank_rows: int = 0
    """Rows of separators only, as written by spreadsheets."""
    notes: list[Note] = field(default_factory=list)
    """The first ``MAX_NOTES``."""
    note_count: int = 0
    note_counts: dict[str, int] = field(default_factory=dict)
    """By code."""
    texts_without_image: int = 0
    """Of an archive or a folder: texts without an unambiguous image."""
    licence: str | None = None
    """Of an archive or a folder: as its ``htr-united.yml`` says."""
    data_set: dict[str, str] = field(default_factory=dict)
    """Likewise, its title and address: metadata of each image."""
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of an archive or a folder: columns and encoding by the tables' paths; of the first 100."""

    def count(self, row: TableRow | Damaged) -> None:
        """Count a row."""
        self.rows += 1
        if isinstance(row, Damaged):
            self.damaged += 1
            if self.damaged > MAX_DAMAGED and self.damaged * 2 > self.rows:
                raise TableGivenUpError(f"{self.damaged} of {self.rows} rows can't be read")
        elif row.text is not None and row.details.how != PREDICTED:
            self.with_text += 1

    def note(self, note: Note) -> None:
        """Count a note, and keep it below the limit."""
        self.note_count += 1
        self.note_counts[note.code] = self.note_counts.get(note.code, 0) + 1
        if len(self.notes) < MAX_NOTES:
            self.notes.append(note)

    def count_unkept(self, other: "Report") -> None:
        """Count the notes of another report that it has not kept."""
        unkept = Counter(other.note_counts) - Counter(note.code for note in other.notes)
        self.note_count += unkept.total()
        self.note_counts = dict(Counter(self.note_counts) + unkept)

    def describe(self, columns: Columns, *, line: int) -> None:
        """Report used, kept and ignored columns; earlier reports are kept.

        Args:
            columns: Of the table, or of one row where each has its own.
            line: Of the header; 0 without header.
        """
        for role, name in columns.used.items():
            self.columns.setdefault(role, name)
        self._tell(self.metadata_columns, columns.kept, line)
        self._tell(self.ignored_columns, columns.ignored, line)
        if len(columns.kept) >= MAX_KEYS and columns.ignored and line:
            detail = f"of the further columns the first {MAX_KEYS} are kept"
            self.note(Note(line, "metadata_dropped", detail))

    def noted(self, line: int, details: Details, problem: str) -> Details:
        """Return what a row says beside its text, and note what of it is dropped, if anything."""
        if problem:
            self.note(Note(line, "metadata_dropped", problem[:300]))
        return details

    def checked(
        self, line: int, text: str | None, details: Details, member: str | None = None
    ) -> tuple[str | None, Details]:
        """Return a text with its details; drop and note that of a page, and a prediction."""
        if details.is_page and text is not None:
            detail = "the text of a whole page is not taken: only its lines have texts"
            self.note(Note(line, "text_of_page", detail, member))
            text = None
        if details.how != PREDICTED:
            return text, details
        if text is not None:
            detail = "a prediction in an export, unchecked by a person: not taken as a text"
            self.note(Note(line, "prediction_dropped", detail, member))
        return None, replace(details, how=None)

    def _tell(self, told: list[str], names: Sequence[str], line: int) -> None:
        """Add names of columns; note those that may be the text as well as the one taken."""
        taken = self.columns.get("text", "")
        for name in names:
            if name in told or len(told) >= MAX_COLUMNS:
                continue
            told.append(name)
            if taken and plain(name) in TEXT_NAMES and plain(name) != plain(taken):
                detail = f"{taken[:100]!r} is taken as the text, and {name[:100]!r} is not"
                self.note(Note(line, "several_text_columns", detail))
