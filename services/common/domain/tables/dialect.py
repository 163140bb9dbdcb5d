"""Detect the dialect of a table: separator, quoting, header.

The file's name may specify it. Otherwise each separator is tried on the first rows; the best one
has a header that names the columns, and rows with as many cells. Counting characters in one line
would take a comma in a URL for a separator.
"""

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mode

from services.common.domain.tables.columns import Columns, Wanted, find_columns, missing

SAMPLE_ROWS = 100
HEADER_ROWS = 10
"""Of these one may be the header; ``#`` comments above it are not counted."""
SEPARATORS = (",", ";", "\t", "|")
_SEP_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""Excel's declaration of the separator in the first line."""
COMPLETE = re.compile(r"[^\s?#]\.(png|jpe?g|webp|tiff?|bmp|gif)([?#]\S*)?$", re.IGNORECASE)
_NUMBERS = re.compile(r"[\d\s.,;:xX*%+-]*")
_PAIR = re.compile(
    r'("?)(https?://[^\s?#"]+?\.(?:png|jpe?g|webp|tiff?|bmp|gif))\1\s*([,;|])\s*(.*)', re.IGNORECASE
)
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
_NO_URL = re.compile(r'[\s"]')


@dataclass(frozen=True)
class Pair:
    """A line that may be the URL of an image, a separator and a text, or a URL as a whole."""

    url: str
    separator: str
    text: str
    is_clear: bool
    """Whether it has a space or a quote, which no URL has, and the text is no number."""


class NoHeaderError(ValueError):
    """The table has no image column; the message lists its columns."""


@dataclass(frozen=True)
class Dialect:
    """Dialect of a table."""

    separator: str | None
    """None: each line is one cell."""
    is_quoted: bool
    columns: Columns
    first_row: int
    """Index of the first data row among non-blank lines."""
    skipped: int = 0
    """Lines above the header: titles, comments, ``sep=``."""


@dataclass(frozen=True)
class Hints:
    """Known properties of a table.

    Args:
        separator: From its name or content type.
        is_quoted: Whether quotes have a meaning if the separator is a tab: not in TSV, but in files
            of spreadsheets.
        is_nameless: Whether a first cell names an image, so that there is no header.
    """

    separator: str | None
    is_quoted: bool
    is_nameless: Callable[[str], bool]


def find_dialect(sample: Sequence[str], wanted: Wanted, hints: Hints) -> Dialect:
    """Detect the dialect from the first non-blank lines.

    Raises:
        NoHeaderError: It has a header without a required column.
    """
    named = _SEP_LINE.fullmatch(sample[0].strip("\ufeff")) if sample else None
    start = 1 if named else 0
    given = named[1] if named else hints.separator
    if given is not None and not any(given in line for line in sample[start:]):
        given = None
    candidates = SEPARATORS if given is None else (given,)
    dialects = [
        dialect
        for separator in candidates
        if (dialect := _with_header(sample, start, separator, wanted, hints)) is not None
    ]
    if dialects:
        return max(dialects, key=lambda dialect: _fit(sample, dialect))
    return _without_header(sample, start, given, wanted, hints)


def split(line: str, separator: str | None, *, is_quoted: bool) -> list[str]:
    """Split one line into cells, roughly: a quote may end in another line."""
    if separator is None:
        return [line.strip()]
    try:
        return next(
            csv.reader(
                [line],
                delimiter=separator,
                quoting=csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE,
                skipinitialspace=is_quoted,
                strict=True,
            ),
            [],
        )
    except csv.Error:
        return []


def is_quoted(separator: str | None, hints: Hints) -> bool:
    """Return whether quotes have a meaning with this separator."""
    return separator is not None and (separator != "\t" or hints.is_quoted)


def _with_header(
    sample: Sequence[str], start: int, separator: str, wanted: Wanted, hints: Hints
) -> Dialect | None:
    """Return the dialect of a separator if one of the first lines is a header with it."""
    quoted = is_quoted(separator, hints)
    comments = 0
    for place, line in enumerate(sample[start:], start):
        comments += line.lstrip(" \ufeff").startswith("#")
        if place - start - comments >= HEADER_ROWS:
            return None
        cells = split(line, separator, is_quoted=quoted)
        if not cells or hints.is_nameless(cells[0]):
            return None
        columns = find_columns(cells, wanted) if _is_header(cells) else None
        if columns is not None:
            return Dialect(separator, quoted, columns, place + 1, skipped=place)
    return None


def _is_header(cells: Sequence[str]) -> bool:
    return any(cell.strip() for cell in cells) and all(len(cell) <= 200 for cell in cells)


def _fit(sample: Sequence[str], dialect: Dialect) -> tuple[int, float, int]:
    """Rate the match of rows and header: columns found, share of rows, rank of separator."""
    separator, width = dialect.separator or "", len(dialect.columns.names)
    rows = [
        split(line, separator, is_quoted=dialect.is_quoted) for line in sample[dialect.first_row :]
    ]
    whole = [row for row in rows if row]  # others begin or end within quotes
    agreeing = sum(len(row) == width for row in whole) / len(whole) if whole else 1.0
    rank = -SEPARATORS.index(separator) if separator in SEPARATORS else 0
    return len(dialect.columns.used), agreeing, rank


def _without_header(
    sample: Sequence[str], start: int, given: str | None, wanted: Wanted, hints: Hints
) -> Dialect:
    lines = [line for line in sample[start:] if not line.lstrip().startswith("#")]
    if not lines:
        return Dialect(given, is_quoted(given, hints), _by_position(wanted, 1), start, start)
    first = split(lines[0], given or ",", is_quoted=is_quoted(given or ",", hints))
    if not hints.is_nameless((first or [lines[0]])[0]):
        best = max(
            (split(lines[0], each, is_quoted=True) for each in SEPARATORS), key=len, default=[]
        )
        raise NoHeaderError(missing(best or [lines[0].strip()], wanted))
    if wanted.url_column or wanted.text_column or wanted.group_column:
        raise NoHeaderError("columns are named, but the table has no header")
    separator = given if given is not None else _separator_of_rows(lines, hints)
    width = 1 if separator is None else 2
    return Dialect(
        separator, is_quoted(separator, hints), _by_position(wanted, width), start, start
    )


def pair_of(line: str) -> Pair | None:
    """Return the parts of a line, or None if it is clearly no pair."""
    found = _PAIR.fullmatch(line)
    if found is None or COMPLETE.search(line):
        return None
    _, url, separator, text = found.groups()
    word = text.partition(" ")[0]
    if "://" in text or COMPLETE.search(word) or any(sign in word for sign in "/=_"):
        return None  # the URL goes on
    is_clear = bool(_NO_URL.search(line)) and not _NUMBERS.fullmatch(text)
    if quoted := _QUOTED.fullmatch(text):
        text = quoted[1].replace('""', '"')
    return Pair(url, separator, text.strip(), is_clear)


def separator_of_pairs(lines: Sequence[str]) -> str | None:
    """Return the separator if each line of a text file is the URL of an image and its text.

    A URL may have each separator within: half of the lines need a sign that no URL has. Texts that
    all begin with one word, such as ``large``, or have the separator, may be more than the text.
    """
    pairs = [pair_of(line.strip("\ufeff \t\r\n")) for line in lines]
    known = [pair for pair in pairs if pair is not None]
    separators = {pair.separator for pair in known}
    if len(known) < len(pairs) or len(separators) != 1:
        return None
    separator = separators.pop()
    is_alike = len(known) > 1 and len({pair.text.partition(" ")[0] for pair in known}) == 1
    if is_alike or all(separator in pair.text for pair in known):
        return None
    return separator if sum(pair.is_clear for pair in known) * 2 >= len(known) else None


def _by_position(wanted: Wanted, width: int) -> Columns:
    return Columns(0, 1 if width > 1 or wanted.needs_text else None, None, ())


def _separator_of_rows(lines: Sequence[str], hints: Hints) -> str | None:
    """Return the separator of a table without header, or None if each line is one cell.

    The first cell must be complete: not a file name or URL that goes on after the separator.
    """
    whole_lines = _completeness([line.strip() for line in lines])
    found: list[tuple[float, float, str]] = []
    for separator in SEPARATORS:
        rows = [split(line, separator, is_quoted=is_quoted(separator, hints)) for line in lines]
        rows = [row for row in rows if row]
        if any(len(row) > 1 for row in rows):
            complete = _completeness([_image_of(row, separator) for row in rows])
            found.append((complete, _agreement(rows, separator), separator))
    if not found:
        return None
    complete, agreement, separator = max(found, key=lambda each: each[:2])
    if complete > whole_lines:
        return separator
    return separator if complete == whole_lines == 0 and agreement > 0 else None


def _image_of(row: Sequence[str], separator: str) -> str:
    """Return the first cell, or the first cells that form a URL, which may hold commas."""
    if "://" in row[0]:
        for place in range(1, len(row)):
            if COMPLETE.search(joined := separator.join(row[:place]).strip()):
                return joined
    return row[0].strip()


def _completeness(cells: Sequence[str]) -> float:
    """Return the share of cells that end like an image's name or URL."""
    return sum(bool(COMPLETE.search(cell)) for cell in cells) / max(len(cells), 1)


def _agreement(rows: Sequence[Sequence[str]], separator: str) -> float:
    """Rate rows as image and text, without names.

    A semicolon may be part of a URL, so each row must have it; numbers alone are not texts.
    """
    pairs = [row for row in rows if len(row) == 2]
    if not pairs or mode(len(row) for row in rows) > 2:
        return 0.0
    if separator in ";|" and len(pairs) < len(rows):
        return 0.0
    texts = sum(not _NUMBERS.fullmatch(row[1]) and "=" not in row[1] for row in pairs)
    share = texts / len(pairs)
    return share + (1.0 if separator == "\t" else 0.0)
