"""``docreco annotate``: import annotations from a file."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn

from services.cli.annotation_files import (
    AnnotationFile,
    InvalidRow,
    UnreadableFileError,
    open_annotations,
)
from services.cli.annotation_writing import REJECTED, Code, Finder, Writer
from services.cli.errors import CommandError, ExitStatus, status_of
from services.cli.limits import open_images
from services.cli.options import ColumnOfTexts, ColumnOfUrls, DryRun, Encoding, tabular
from services.cli.output import Output, Table, cell, counted, plain
from services.cli.progress import progress_bar
from services.cli.reading import render_reading
from services.common.domain.annotations import (
    AnnotationOutcome,
    UnacceptableAnnotationError,
    to_annotation,
)
from services.common.domain.tables.list_format import ReadingOptions
from services.common.domain.tables.report import Report
from services.common.domain.texts import number_of
from services.common.runtime.settings import S3Settings

SHOWN = 20
EXAMPLES = 5
"""Examples named if rows are reported together."""
NOT_WELL = (AnnotationOutcome.CONFLICT.value, AnnotationOutcome.UNKNOWN.value, REJECTED)
_AT_ONCE = {
    Code.UNKNOWN_URL: "{} rows name URLs; no image has any of these sources",
    Code.UNKNOWN_FILE: "{} rows name files; none matches a name, key or hash: docreco images "
    "--wide lists them",
    Code.AMBIGUOUS: "{} rows name files by a name that several images have: choose by --collection",
}
"""Message for all rows of a kind."""


@tabular
async def annotate(
    file: Annotated[
        Path,
        typer.Argument(help="CSV, TSV or JSON lines: url, key, hash or file name, text, quality."),
    ],
    *,
    by: Annotated[
        str | None, typer.Option(help="Name of the annotator; default: your user name.")
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace other annotations; they stay in the history."),
    ] = False,
    collection: Annotated[
        str | None, typer.Option(help="Collection of the file names; default: all.")
    ] = None,
    dry_run: DryRun = False,
    encoding: Encoding = None,
    url_column: ColumnOfUrls = None,
    text_column: ColumnOfTexts = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Write nothing if a row is invalid or was interpreted."),
    ] = False,
    output: Output,
) -> ExitStatus:
    """Annotate images from a file; existing annotations are kept without --overwrite."""
    options = ReadingOptions(encoding, url_column, text_column)
    with _translate_file_errors():
        author = to_annotation("-", by=by or getpass.getuser()).by
        if strict:
            _check_strictly(file, options)
        async with open_images() as images:
            finder = Finder(images, S3Settings().bucket, collection)
            writer = Writer(images, finder, author, overwrite=overwrite, dry_run=dry_run)
            with open_annotations(file, options) as opened:
                await _write_all(writer, opened, output.stderr)
    answer = _answer(writer, opened.report)
    output.print({"dry_run": dry_run, **answer}, *_render(writer, opened.report, dry_run=dry_run))
    is_well = not any(answer[name] for name in NOT_WELL)
    return ExitStatus.OK if is_well else ExitStatus.INCOMPLETE


def _answer(writer: Writer, report: Report) -> dict[str, Any]:
    return {
        "rows": writer.rows,
        **_complete(dict(writer.counts)),
        "remarks": [vars(each) for each in writer.issues],
        "reading": asdict(report),
    }


def _check_strictly(file: Path, options: ReadingOptions) -> None:
    """Read a file without writing anything.

    Raises:
        UnreadableFileError: Rows can't be read, or had to be interpreted; lists them.
    """
    with open_annotations(file, options) as opened:
        problems = [
            f"line {row.line}: {row.detail}" for row in opened.rows() if isinstance(row, InvalidRow)
        ]
    problems += [f"line {note.line}: {note.detail}" for note in opened.report.notes]
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        listed = "; ".join(problems[:SHOWN])
        raise UnreadableFileError(f"{file}: nothing is written (--strict): {listed}{more}")


async def _write_all(writer: Writer, opened: AnnotationFile, console: Console) -> None:
    columns = (TextColumn("annotating"), BarColumn(bar_width=30), DownloadColumn())
    with progress_bar(console, *columns, TimeRemainingColumn(compact=True)) as bar:
        task = bar.add_task("annotating", total=opened.size, words="bytes of the file")
        for row in opened.rows():
            await writer.take(row)
            bar.update(task, completed=opened.position)


@contextmanager
def _translate_file_errors() -> Iterator[None]:
    try:
        yield
    except (UnreadableFileError, UnacceptableAnnotationError) as error:
        raise CommandError(str(error), status=status_of(error.__cause__ or error)) from error


def _complete(counts: dict[str, int]) -> dict[str, int]:
    return {name: counts.get(name, 0) for name in (*map(str, AnnotationOutcome), REJECTED)}


def _render(writer: Writer, report: Report, *, dry_run: bool) -> list[Any]:
    would = "would be: " if dry_run else ""
    words = (
        f"{number_of(writer.rows, 'row')}: {would}{plain(counted(_complete(dict(writer.counts))))}"
    )
    at_once = {
        code: said.format(writer.codes[code]) + _examples(writer, code)
        for code, said in _AT_ONCE.items()
        if writer.codes[code] > 1 and not writer.found[code]
    }
    issues = [each for each in writer.issues if each.code not in at_once]
    shown: list[Any] = []
    if issues:
        rows = [
            [cell(each.line), cell(each.outcome, "red"), cell(each.where), cell(each.detail)]
            for each in issues
        ]
        columns = ("line", "outcome", "image", "why")
        shown.append(Table("Not annotated", columns, rows, most=SHOWN))
    return [*shown, *at_once.values(), *render_reading(report), words]


def _examples(writer: Writer, code: Code) -> str:
    """Format the first rows of a kind."""
    names = [plain(each.where) for each in writer.issues if each.code is code][:EXAMPLES]
    rest = writer.codes[code] - len(names)
    return f" ({', '.join(names)}{f' and {rest} more' if rest else ''})" if names else ""
