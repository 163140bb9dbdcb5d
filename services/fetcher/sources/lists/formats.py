"""Read the rows of a list by format."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice
from typing import IO, Any

from services.common.domain.tables.columns import find_columns, missing
from services.common.domain.tables.dialect import (
    COMPLETE,
    SAMPLE_ROWS,
    NoHeaderError,
    pair_of,
    separator_of_pairs,
    split,
)
from services.common.domain.tables.json_rows import read_items, read_json_lines
from services.common.domain.tables.lines import (
    FileLine,
    UnknownEncodingError,
    detect_encoding,
    open_lines,
)
from services.common.domain.tables.list_format import ListFormat, ReadingOptions, is_json_lines
from services.common.domain.tables.records import CellRow, Damaged, read_lines
from services.common.domain.tables.report import Note, Report, TableGivenUpError, TableRow
from services.common.domain.tables.table import TableSource, read_table
from services.fetcher.sources.errors import MalformedListError, reject
from services.fetcher.sources.lists.documents import (
    items_of,
    list_url_of,
    load_document,
    members_of,
    to_name,
)
from services.fetcher.sources.lists.parquet import parse_parquet
from services.fetcher.sources.lists.rows import WANTED, Row, is_url, to_items

_MARKS = " \t\r\n\ufeff"


@dataclass(frozen=True)
class OpenList:
    """A list whose rows can be read once."""

    name: str | None
    rows: Iterator[Row]
    report: Report = field(default_factory=Report)
    """Reading report, complete after the last row."""
    list_url: str | None = None
    """URL of the list; there are no rows then."""
    members: Mapping[str, str | bool | list[None] | None] = field(default_factory=dict)
    """Further members of a JSON document, as parameters of the submission."""


def open_list(
    file: IO[bytes], list_format: ListFormat, options: ReadingOptions | None = None
) -> OpenList:
    """Open a list in ``file``, which the caller closes.

    Raises:
        MalformedListError: It can't be read; also while reading rows.
    """
    options = options or ReadingOptions()
    file.seek(0)
    if list_format is ListFormat.JSON and not is_json_lines(file):
        return _open_document(file.read(), options)
    report = Report()
    if list_format is ListFormat.PARQUET:
        return OpenList(None, parse_parquet(file, options.wanted(WANTED), report), report)
    rows = _rows(file, list_format, options, report)
    items = to_items(rows, report, pages=options.pages)
    return OpenList(None, _refusing(items), report)


def _open_document(content: bytes, options: ReadingOptions) -> OpenList:
    document = _load_document(content, options.encoding)
    name, list_url, members = (
        to_name(document.get("name")),
        list_url_of(document),
        members_of(document),
    )
    report = Report()
    if list_url is not None:
        return OpenList(name, iter(()), report, list_url, members)

    def rows() -> Iterator[TableRow | Damaged]:
        yield from read_items(iter(items_of(document)), options.wanted(WANTED), report)

    items = to_items(rows(), report, pages=options.pages)
    return OpenList(name, _refusing(items), report, members=members)


def _load_document(content: bytes, encoding: str | None) -> Mapping[str, Any]:
    """Load a document; an encoding of one with ``list_url`` belongs to that list."""
    if encoding is None:
        return load_document(content)
    with suppress(MalformedListError):
        document = load_document(content)
        if "list_url" in document:
            return document
    return load_document(_as_utf8(content, encoding))


def _as_utf8(content: bytes, encoding: str) -> bytes:
    try:
        return content.decode(detect_encoding(BytesIO(content), encoding)).encode()
    except ValueError as error:  # also for an unknown encoding
        raise MalformedListError(f"the list is not {encoding[:40]}: {error}"[:300]) from error


def _rows(
    file: IO[bytes], list_format: ListFormat, options: ReadingOptions, report: Report
) -> Iterator[TableRow | Damaged]:
    match list_format:
        case ListFormat.JSON_LINES | ListFormat.JSON:
            wanted = options.wanted(WANTED)
            yield from read_json_lines(file, wanted, report, options.encoding)
        case ListFormat.TEXT:
            yield from _text_rows(file, options, report)
        case _:
            separator = "\t" if list_format is ListFormat.TSV else None
            source = TableSource(file, is_url, separator, options.encoding)
            yield from read_table(source, options.wanted(WANTED), report)


def _text_rows(
    file: IO[bytes], options: ReadingOptions, report: Report
) -> Iterator[TableRow | Damaged]:
    encoding = detect_encoding(file, options.encoding)
    lines = (line.text for line in open_lines(file, encoding))
    known = (line for line in lines if line.strip(_MARKS)[:1] not in {"", "#"})
    sample = list(islice(known, SAMPLE_ROWS))
    if separator := _separator_of_table(sample[0] if sample else "", options):
        source = TableSource(file, is_url, separator, options.encoding)
        yield from read_table(source, options.wanted(WANTED), report)
    else:
        report.encoding = encoding
        report.separator = separator_of_pairs(sample)
        yield from _read_text(open_lines(file, encoding), report)


def _read_text(lines: Iterable[FileLine], report: Report) -> Iterator[TableRow | Damaged]:
    """Yield each line of a URL and optionally a text; skip blank lines and ``#`` comments."""
    for record in read_lines(lines):
        if isinstance(record, Damaged):
            row: TableRow | Damaged = record
        elif record.cells[0].startswith("#"):
            continue
        else:
            row = TableRow(record.line, *_cut(record, report))
        report.count(row)
        yield row


def _cut(record: CellRow, report: Report) -> tuple[str, str | None]:
    """Return the URL of a line, without brackets and quotes, and the text after it.

    A space may be part of a URL: the rest is a text only if an image suffix comes before it, and
    none at the end of the line. A comma may be, too: what is done in doubt is noted.
    """
    line = record.cells[0]
    if pair := pair_of(line):
        is_text = pair.separator == report.separator
        if pair.text and not (is_text and pair.is_clear and report.with_text):
            done = "read as a text" if is_text else "kept in the URL: name a table .csv"
            report.note(Note(record.line, "text_in_doubt", f"{pair.text[:100]!r} is {done}"))
        if is_text:
            return pair.url, pair.text or None
    for first, last in ("<>", '""'):
        if line.startswith(first) and line.endswith(last) and (inner := line[1:-1].strip()):
            line = inner
    if COMPLETE.search(bare := line.rstrip(",; ")):
        return bare, None
    url, _, text = line.partition(" ")
    return (url, text.strip()) if COMPLETE.search(url) else (line, None)


def _separator_of_table(first: str, options: ReadingOptions) -> str | None:
    """Return the separator if a text file is a table, such as Excel's Unicode text."""
    if "\t" in first.strip():
        return "\t"
    for separator in (",", ";", "|"):
        cells = split(first, separator, is_quoted=True)
        if len(cells) > 1 and not is_url(cells[0]) and find_columns(cells, options.wanted(WANTED)):
            return separator
    if options.names_columns:
        raise NoHeaderError(missing([first.strip()], options.wanted(WANTED)))
    return None


def _refusing(rows: Iterator[Row]) -> Iterator[Row]:
    """Translate errors of the table reader."""
    try:
        yield from rows
    except NoHeaderError as error:
        detail = str(error)
        raise MalformedListError(detail, [reject(1, "", "no_url_column", detail)]) from error
    except (TableGivenUpError, UnknownEncodingError) as error:
        raise MalformedListError(str(error)) from error
