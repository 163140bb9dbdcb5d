"""Rows of a list: valid items and rejections."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from services.common.domain.annotations import (
    MAX_ANNOTATION_LENGTH,
    UnacceptableAnnotationError,
    normalise,
)
from services.common.domain.batch import ListRow
from services.common.domain.details import NO_DETAILS, Details, is_text
from services.common.domain.tables.columns import URL_NAMES, Wanted
from services.common.domain.tables.records import Damaged
from services.common.domain.tables.report import Report, TableRow
from services.common.download.urls import UnacceptableUrlError, to_url
from services.fetcher.sources.addresses import (
    is_archive_path,
    line_url,
    member_url,
    name_of,
    split_line,
    split_member,
    submitted_digest,
)
from services.fetcher.sources.errors import Rejection, reject

MAX_ANNOTATION_LINES = 100
"""Limit of lines in an annotation."""
WANTED = Wanted(where=URL_NAMES, has_details=True)


@dataclass(frozen=True, slots=True)
class ListItem:
    """An image to download."""

    line: int
    """First line in the list, from 1; in a JSON list the index."""
    url: str
    """Normalised to ASCII."""
    annotation: str | None = None
    """Normalised, never empty."""
    details: Details = NO_DETAILS
    """Further metadata."""

    @property
    def length(self) -> int:
        """Approximate size in characters."""
        return len(self.url) + len(self.annotation or "") + self.details.length

    @property
    def packed(self) -> ListRow:
        """Encode for a page of a list, and for results of a child process."""
        return self.line, self.url, self.annotation, self.details.to_fields()

    @classmethod
    def unpacked(cls, row: ListRow) -> Self:
        """Decode the result of ``packed``."""
        line, url, annotation, details = row
        return cls(line, url, annotation, Details.from_fields(details) if details else NO_DETAILS)


Row = ListItem | Rejection


def to_row(line: int, url: object, annotation: object = None, details: Details = NO_DETAILS) -> Row:
    """Validate a raw item; the fragment of an archive's URL names a member."""
    if not isinstance(url, str):
        return reject(line, "" if url is None else url, "invalid_url", "URL is missing")
    if submitted_digest(url := url.strip()):  # of a failed.csv
        return check_annotation(line, url, annotation, details)
    try:
        accepted = to_url(url)
    except UnacceptableUrlError as error:
        return reject(line, url, error.code, error.detail)
    _, member = split_member(url)
    is_named = details.name is not None and details.name == name_of(url)  # in a failed.csv
    is_member = member and (is_named or is_archive_path(accepted.path))
    kept = member_url(str(accepted), member) if is_member else str(accepted)
    if is_member and (of_page := split_line(url)):
        kept = line_url(kept, of_page)
    return check_annotation(line, kept, annotation, details)


def check_annotation(line: int, url: str, annotation: object, details: Details = NO_DETAILS) -> Row:
    """Create an item of a valid URL, or a rejection of its annotation."""
    problem = _problem(annotation)
    if problem:
        return reject(line, annotation, "invalid_annotation", f"the annotation {problem}")
    try:
        text = normalise(annotation) if isinstance(annotation, str) else ""
    except UnacceptableAnnotationError as error:
        return reject(line, annotation, error.code, f"invalid annotation: {error}")
    return ListItem(line, url, text or None, details)


def _problem(annotation: object) -> str:
    """Return the problem of an annotation, or empty."""
    if annotation is None:
        return ""
    if not isinstance(annotation, str):
        return "is not text"
    if len(annotation) > MAX_ANNOTATION_LENGTH:
        return f"has more than {MAX_ANNOTATION_LENGTH} characters"
    if annotation.count("\n") + annotation.count("\r") >= MAX_ANNOTATION_LINES:
        return f"has more than {MAX_ANNOTATION_LINES} lines"
    return "" if is_text(annotation) else "is not valid Unicode"


def is_url(cell: str) -> bool:
    """Return whether a table's first cell is a URL, so that it has no header."""
    return cell.strip().strip('"\ufeff').lower().startswith(("http://", "https://"))


def to_items(
    rows: Iterable[TableRow | Damaged], report: Report, *, pages: bool = False
) -> Iterator[Row]:
    """Yield an item or a rejection for each row.

    Args:
        rows: Of a list.
        report: Collects notes.
        pages: Whether all its images are pages; lines of pages stay lines.
    """
    for row in rows:
        if isinstance(row, Damaged):
            yield reject(row.line, row.value, row.code, row.detail)
        else:
            is_page = pages and split_line(row.where) is None
            details = replace(row.details, is_page=True) if is_page else row.details
            checked = report.checked(row.line, row.text, details)
            yield to_row(row.line, row.where or None, *checked)
