"""Read rows from JSON: one object per row, in lines, in an array, or under ``items``."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import IO, Any

from services.common.domain.details import JsonNumber
from services.common.domain.tables.columns import (
    Columns,
    Wanted,
    find_column,
    find_columns,
    missing,
)
from services.common.domain.tables.lines import (
    MAX_LINE_LENGTH,
    FileLine,
    detect_encoding,
    open_lines,
)
from services.common.domain.tables.records import Damaged
from services.common.domain.tables.report import Report, TableRow

MAX_FORMS = 1000
"""Sets of members whose roles are remembered."""


def load_json(content: str | bytes) -> Any:
    """Parse JSON; numbers keep their spelling, as they may be labels: ``1.50``.

    Raises:
        ValueError: It is not JSON.
        RecursionError: It is nested too deeply.
    """
    return json.loads(
        content, parse_float=JsonNumber, parse_int=JsonNumber, parse_constant=lambda _: None
    )


def read_json_lines(
    file: IO[bytes], wanted: Wanted, report: Report, encoding: str | None = None
) -> Iterator[TableRow | Damaged]:
    """Yield each line except blank ones and brackets of an array with one object per line.

    Args:
        file: Stays open.
        wanted: Members to look for.
        report: Filled while reading.
        encoding: Declared by the sender.

    Raises:
        UnknownEncodingError: The declared encoding does not exist.
    """
    report.encoding = detect_encoding(file, encoding)
    members = _Members(wanted, report)
    for line in open_lines(file, report.encoding, only_line_feeds=True):
        if line.text.strip("\ufeff \t\r\n") in {"", "[", "]"}:
            continue
        row = _from_line(line, members)
        report.count(row)
        yield row


def read_items(
    items: Iterator[Any], wanted: Wanted, report: Report
) -> Iterator[TableRow | Damaged]:
    """Yield each element; its position counts as its line."""
    members = _Members(wanted, report)
    for place, item in enumerate(items, start=1):
        row = _to_row(place, item, members)
        report.count(row)
        yield row


class _Members:
    """The roles of objects' members; a role keeps its first name.

    Otherwise a guess in one member could replace a missing text in another.
    """

    def __init__(self, wanted: Wanted, report: Report) -> None:
        self.wanted = wanted
        self.report = report
        self._found: dict[tuple[str, ...], Columns | None] = {}

    def find(self, names: tuple[str, ...]) -> Columns | None:
        """Return the roles of an object with these members, which are found once."""
        if names in self._found:
            return self._found[names]
        before = dict(self.report.columns)
        columns = self._find(names)
        if columns is not None:
            self.report.describe(columns, line=0)
        if self.report.columns != before or len(self._found) >= MAX_FORMS:
            self._found.clear()  # other names have a role now
        else:
            self._found[names] = columns
        return columns

    def _find(self, names: tuple[str, ...]) -> Columns | None:
        where, text, group = map(self.report.columns.get, ("image", "text", "group"))
        if where is not None and where not in names:
            return None
        wanted = replace(self.wanted, url_column=where or self.wanted.url_column)
        if group is not None:
            wanted = replace(wanted, group_column=None, group=(group,))
        if text is not None:
            wanted = replace(wanted, text_column=None, needs_text=False, text=(text,))
        return find_columns(names, wanted)


def _from_line(line: FileLine, members: _Members) -> TableRow | Damaged:
    if not line.is_whole:
        detail = f"more than {MAX_LINE_LENGTH} characters"
        return Damaged(line.number, line.text, "line_too_long", detail)
    if line.undecodable:
        detail = f"byte {line.undecodable} is not valid in the file's encoding"
        return Damaged(line.number, line.text, "undecodable_row", detail)
    try:
        item = load_json(line.text.removeprefix("\ufeff").rstrip().removesuffix(","))
    except (ValueError, RecursionError) as error:
        return Damaged(line.number, line.text, "malformed_row", f"not valid JSON: {error}")
    return _to_row(line.number, item, members)


def _to_row(place: int, item: object, members: _Members) -> TableRow | Damaged:
    if not isinstance(item, Mapping):
        return Damaged(place, str(item), "malformed_row", 'an item must be an object with a "url"')
    names, wanted, report = tuple(map(str, item)), members.wanted, members.report
    columns = members.find(names)
    if columns is None:
        if find_column(names, wanted.where) is None or "image" in report.columns:
            return TableRow(place, "", None)
        return Damaged(place, str(item), "malformed_row", missing(names, wanted))
    values = list(item.values())
    where, text, quality = (
        None if at is None else values[at] for at in (columns.where, columns.text, columns.quality)
    )
    for value, code in ((where, "invalid_url"), (text, "invalid_annotation")):
        if not isinstance(value, str | None):
            kind = type(value).__name__
            return Damaged(place, str(value), code, f"a value is {kind}, not text")
    if text is not None and text.lstrip().startswith('{"gt_parse'):
        text, problem = _donut_text(text), "it is a form's values, not a text"
        if text is None:
            return Damaged(place, str(item), "invalid_annotation", problem)
    quality = quality if isinstance(quality, str) else None
    text = text if text and text.strip() else None
    details = report.noted(place, *columns.details(values))
    return TableRow(place, (where or "").strip(), text, quality, details)


def _donut_text(ground_truth: str) -> str | None:
    """Return the text of Donut's column ``ground_truth``, which is JSON itself; None: a form's.

    For a text its data sets have ``{"gt_parse": {"text_sequence": "…"}}``
    (clovaai/donut, README, "Data").
    """
    try:
        parsed = load_json(ground_truth)["gt_parse"]
        (text,) = parsed.values()
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    return text if isinstance(text, str) else None
