"""``docreco annotate``: import annotations from a file."""

import getpass
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from services.cli.annotation_files import (
    AnnotationFile,
    Problem,
    Row,
    UnreadableFileError,
    open_annotations,
)
from services.cli.errors import CommandError, ExitStatus
from services.cli.output import Output, cell, counted, plain, run, table
from services.cli.reading import reading_for_people
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import open_index
from services.common.domain.annotations import (
    Outcome,
    UnacceptableAnnotationError,
    to_annotation,
)
from services.common.domain.image_filter import PRESENT, ImageFilter, Limits
from services.common.domain.records import Annotation, How
from services.common.domain.redaction import hide_secrets
from services.common.domain.tables.columns import ReadingOptions
from services.common.domain.tables.table import Report
from services.common.download.urls import spellings
from services.common.runtime.settings import MongoSettings, S3Settings

REJECTED = "rejected"
SHOWN = 20
EXAMPLES = 5
"""Examples named if all rows of a kind are unknown."""
KEPT = 1000
"""Limit of rows listed in the result; further ones are counted."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
NOT_WELL = (Outcome.CONFLICT.value, Outcome.UNKNOWN.value, REJECTED)
_UNKNOWN_KINDS = {
    "url": "{} rows name URLs; no image has any of these sources",
    "file": "{} rows name files; none matches a name, key or hash: docreco images --wide lists "
    "them",
}
"""Message if all rows of a kind are unknown."""


@dataclass(frozen=True)
class Remark:
    """A message about a row."""

    line: int
    outcome: str
    where: str
    detail: str


def annotate(
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Dry run: write nothing.")] = False,
    encoding: Annotated[
        str | None, typer.Option(help="Encoding of its text, such as windows-1250.")
    ] = None,
    url_column: Annotated[
        str | None, typer.Option(help="Name of the column of URLs or keys; default: detected.")
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(help="Name of the column of texts; default: detected.")
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Write nothing if a row can't be read, or had to be interpreted.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Annotate images from a file; existing annotations are kept without --overwrite."""
    output = Output(as_json=as_json)
    options = ReadingOptions(encoding, url_column, text_column)

    async def work() -> ExitStatus:
        with _told_of_files():
            author = to_annotation("-", by=by or getpass.getuser()).by
            if strict:
                _check_strictly(file, options)
            async with open_index(MongoSettings()) as index:
                images, bucket = ImageRepository(index.images), S3Settings().bucket
                finder = _Finder(images, bucket, collection)
                writer = _Writer(images, finder, author, overwrite=overwrite, dry_run=dry_run)
                with open_annotations(file, options) as opened:
                    await _write_all(writer, opened, output.asides)
        counts = dict(writer.counts)
        answer = {
            "dry_run": dry_run,
            "rows": writer.rows,
            **_complete(counts),
            "remarks": [vars(each) for each in writer.remarks],
            "reading": asdict(opened.report),
        }
        output.answer(answer, *_for_people(writer, opened.report, dry_run=dry_run))
        is_well = not any(counts.get(name) for name in NOT_WELL)
        return ExitStatus.OK if is_well else ExitStatus.INCOMPLETE

    run(output, work)


def _check_strictly(file: Path, options: ReadingOptions) -> None:
    """Read a file without writing anything.

    Raises:
        UnreadableFileError: Rows can't be read, or had to be interpreted; lists them.
    """
    with open_annotations(file, options) as opened:
        problems = [
            f"line {row.line}: {row.detail}" for row in opened.rows() if isinstance(row, Problem)
        ]
    problems += [f"line {note.line}: {note.detail}" for note in opened.report.notes]
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        listed = "; ".join(problems[:SHOWN])
        raise UnreadableFileError(f"{file}: nothing is written (--strict): {listed}{more}")


class _Found(NamedTuple):
    ids: list[str]
    is_by_name: bool = False
    """Whether the name must be unambiguous, unlike a URL, a key or a hash."""


@dataclass(frozen=True)
class _Finder:
    """Finds the documents of a row."""

    images: ImageRepository
    bucket: str
    collection: str | None

    async def find(self, where: str) -> _Found:
        """Find documents by URL, key, hash or name."""
        if _kind(where) == "url":
            return _Found(await self._ids(ImageFilter(urls=frozenset(spellings(where)))))
        keys = frozenset({where, f"{self.bucket}/{where}"})
        if found := await self._ids(ImageFilter(ids=keys)):
            return _Found(found)
        if _SHA256.fullmatch(where):
            return _Found(await self._ids(ImageFilter(hashes=frozenset({where}))))
        named = ImageFilter(Limits(collection=self.collection), name=where, status=PRESENT)
        return _Found(await self._ids(named), is_by_name=True)

    async def _ids(self, where: ImageFilter) -> list[str]:
        found = self.images.find(where, sort=[("_id", 1)], fields={"_id": 1})
        return [document.id async for document in found]


class _Writer:
    """Writes rows in order, as later ones may replace earlier ones."""

    def __init__(
        self, images: ImageRepository, finder: "_Finder", by: str, *, overwrite: bool, dry_run: bool
    ) -> None:
        self._images = images
        self._finder = finder
        self._by = by
        self._overwrite = overwrite
        self._dry_run = dry_run
        self.rows = 0
        self.counts: Counter[str] = Counter()
        """Images by outcome; rows without image count as unknown or rejected."""
        self.remarks: list[Remark] = []
        self.found: Counter[str] = Counter()
        """Rows with an image, by kind of name: ``url`` or ``file``."""
        self.unknown: Counter[str] = Counter()
        """Rows without image, likewise."""

    async def take(self, row: Row | Problem) -> None:
        self.rows += 1
        if isinstance(row, Problem):
            self._note(Remark(row.line, REJECTED, "", row.detail))
            return
        try:
            annotation = to_annotation(row.text, row.quality, by=self._by, how=How.GIVEN)
        except UnacceptableAnnotationError as error:
            self._note(Remark(row.line, REJECTED, row.where, str(error)))
            return
        is_known = False
        found = await self._finder.find(row.where)
        if found.is_by_name and len(found.ids) > 1:
            self.found["file"] += 1
            detail = f"{len(found.ids)} images have this name: choose by --collection"
            self._note(Remark(row.line, REJECTED, row.where, detail))
            return
        for document_id in found.ids:
            is_known = await self._write(row, document_id, annotation) or is_known
        if is_known:
            self.found[_kind(row.where)] += 1
        else:
            self.unknown[_kind(row.where)] += 1
            self._note(Remark(row.line, Outcome.UNKNOWN, row.where, "no existing image"))

    async def _write(self, row: Row, document_id: str, annotation: Annotation) -> bool:
        outcome = await self._images.annotate(
            document_id, annotation, overwrite=self._overwrite, dry_run=self._dry_run
        )
        if outcome is Outcome.CONFLICT:
            detail = f"{document_id} has another annotation, kept without --overwrite"
            self._note(Remark(row.line, outcome, row.where, detail))
        elif outcome is not Outcome.UNKNOWN:
            self.counts[outcome] += 1
        return outcome is not Outcome.UNKNOWN

    def _note(self, remark: Remark) -> None:
        if _kind(remark.where) == "url":
            remark = replace(remark, where=hide_secrets(remark.where))
        self.counts[remark.outcome] += 1
        if len(self.remarks) < KEPT:
            self.remarks.append(remark)


def _kind(where: str) -> str:
    return "url" if where.startswith(("http://", "https://")) else "file"


async def _write_all(writer: _Writer, opened: AnnotationFile, console: Console) -> None:
    columns = (TextColumn("annotating"), BarColumn(bar_width=30), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(compact=True), console=console) as bar:
        task = bar.add_task("", total=opened.size)
        for row in opened.rows():
            await writer.take(row)
            bar.update(task, completed=opened.position)


@contextmanager
def _told_of_files() -> Iterator[None]:
    try:
        yield
    except (UnreadableFileError, UnacceptableAnnotationError) as error:
        raise CommandError(str(error), status=ExitStatus.REFUSED) from error


def _complete(counts: dict[str, int]) -> dict[str, int]:
    return {name: counts.get(name, 0) for name in (*map(str, Outcome), REJECTED)}


def _for_people(writer: _Writer, report: Report, *, dry_run: bool) -> list[Any]:
    would = "would be: " if dry_run else ""
    words = f"{writer.rows} rows: {would}{plain(counted(_complete(dict(writer.counts))))}"
    at_once = {
        kind: _UNKNOWN_KINDS[kind].format(count)
        for kind, count in writer.unknown.items()
        if count > 1 and not writer.found[kind]
    }
    for kind in at_once:
        at_once[kind] += _examples(writer, kind)
    remarks = [
        each
        for each in writer.remarks
        if each.outcome != Outcome.UNKNOWN or _kind(each.where) not in at_once
    ]
    shown: list[Any] = []
    if remarks:
        rows = [
            [cell(each.line), cell(each.outcome, "red"), cell(each.where), cell(each.detail)]
            for each in remarks[:SHOWN]
        ]
        title = "Not annotated"
        if len(remarks) > SHOWN:
            title += f", the first {SHOWN}"
        shown.append(table(title, ("line", "outcome", "image", "why"), rows))
    return [*shown, *at_once.values(), *reading_for_people(report), words]


def _examples(writer: _Writer, kind: str) -> str:
    """Format the first rows of a kind without image."""
    names = [
        plain(each.where)
        for each in writer.remarks
        if each.outcome == Outcome.UNKNOWN and _kind(each.where) == kind
    ][:EXAMPLES]
    rest = writer.unknown[kind] - len(names)
    return f" ({', '.join(names)}{f' and {rest} more' if rest else ''})" if names else ""
