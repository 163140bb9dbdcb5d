"""``docreco annotate``: what a file says images read goes into their documents."""

import getpass
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from services.cli.annotation_files import Problem, Row, UnreadableFileError, open_annotations
from services.cli.errors import CommandError, ExitStatus
from services.cli.output import Output, cell, counted, plain, run, table
from services.common.annotations import (
    Annotation,
    Outcome,
    UnacceptableAnnotationError,
    to_annotation,
)
from services.common.annotations import (
    annotate as write_annotation,
)
from services.common.download.redaction import hide_secrets
from services.common.download.urls import spellings
from services.common.index import Collection, open_index
from services.common.settings import MongoSettings, S3Settings

REJECTED = "rejected"
SHOWN = 20
KEPT = 1000
"""Rows that are named in the answer; beyond it they are only counted."""
NOT_WELL = (Outcome.CONFLICT.value, Outcome.UNKNOWN.value, REJECTED)


@dataclass(frozen=True)
class Remark:
    """What a person has to know about a row."""

    line: int
    outcome: str
    where: str
    detail: str


def annotate(
    file: Annotated[
        Path, typer.Argument(help="CSV, TSV or JSON lines: url or key, text, quality.")
    ],
    *,
    by: Annotated[str | None, typer.Option(help="Who says so; without it your user name.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace other annotations; they are kept aside.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell only, write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Annotate images from a file; an annotation that is there already stays unless overwritten."""
    output = Output(as_json=as_json)

    async def work() -> ExitStatus:
        with _told_of_files():
            author = to_annotation("-", by=by or getpass.getuser()).by
            async with open_index(MongoSettings()) as index:
                writer = _Writer(
                    index.images, S3Settings().bucket, author, overwrite=overwrite, dry_run=dry_run
                )
                await _write_all(writer, file, output.asides)
        counts = dict(writer.counts)
        remarks = [vars(each) for each in writer.remarks]
        answer = {"dry_run": dry_run, "rows": writer.rows, **_complete(counts), "remarks": remarks}
        output.answer(answer, *_for_people(writer, dry_run=dry_run))
        is_well = not any(counts.get(name) for name in NOT_WELL)
        return ExitStatus.OK if is_well else ExitStatus.INCOMPLETE

    run(output, work)


class _Writer:
    """Writes one row after the other: a later one is about what an earlier one has written."""

    def __init__(
        self, images: Collection, bucket: str, by: str, *, overwrite: bool, dry_run: bool
    ) -> None:
        self._images = images
        self._bucket = bucket
        self._by = by
        self._overwrite = overwrite
        self._dry_run = dry_run
        self.rows = 0
        self.counts: Counter[str] = Counter()
        """Images by what became of them; rows that lead to none count as unknown or rejected."""
        self.remarks: list[Remark] = []

    async def take(self, row: Row | Problem) -> None:
        self.rows += 1
        if isinstance(row, Problem):
            self._note(Remark(row.line, REJECTED, "", row.detail))
            return
        try:
            annotation = to_annotation(row.text, row.quality, by=self._by)
        except UnacceptableAnnotationError as error:
            self._note(Remark(row.line, REJECTED, row.where, str(error)))
            return
        is_known = False
        async for document_id in self._find(row.where):
            is_known = await self._write(row, document_id, annotation) or is_known
        if not is_known:
            self._note(Remark(row.line, Outcome.UNKNOWN, row.where, "no image that is there"))

    async def _write(self, row: Row, document_id: str, annotation: Annotation) -> bool:
        outcome = await write_annotation(
            self._images,
            document_id,
            annotation,
            overwrite=self._overwrite,
            dry_run=self._dry_run,
        )
        if outcome is Outcome.CONFLICT:
            detail = f"{document_id} has another annotation; it stays without --overwrite"
            self._note(Remark(row.line, outcome, row.where, detail))
        elif outcome is not Outcome.UNKNOWN:
            self.counts[outcome] += 1
        return outcome is not Outcome.UNKNOWN

    async def _find(self, where: str) -> AsyncIterator[str]:
        """Yield the documents that a URL led to, or that of a key with or without its bucket."""
        if where.startswith(("http://", "https://")):
            given = {"sources.url": {"$in": sorted(spellings(where))}}
        else:
            keys = {where, f"{self._bucket}/{where}"}
            given = {"_id": {"$in": sorted(keys)}}
        async for document in self._images.find(given, sort=[("_id", 1)], fields={"_id": 1}):
            yield document["_id"]

    def _note(self, remark: Remark) -> None:
        if remark.where.startswith(("http://", "https://")):
            remark = replace(remark, where=hide_secrets(remark.where))
        self.counts[remark.outcome] += 1
        if len(self.remarks) < KEPT:
            self.remarks.append(remark)


async def _write_all(writer: _Writer, file: Path, console: Console) -> None:
    columns = (TextColumn("annotating"), BarColumn(bar_width=30), DownloadColumn())
    with (
        open_annotations(file) as opened,
        Progress(*columns, TimeRemainingColumn(compact=True), console=console) as bar,
    ):
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


def _for_people(writer: _Writer, *, dry_run: bool) -> list[Any]:
    would = "would be: " if dry_run else ""
    words = f"{writer.rows} rows: {would}{plain(counted(_complete(dict(writer.counts))))}"
    if not writer.remarks:
        return [words]
    rows = [
        [cell(each.line), cell(each.outcome, "red"), cell(each.where), cell(each.detail)]
        for each in writer.remarks[:SHOWN]
    ]
    title = "Not annotated"
    if len(writer.remarks) > SHOWN:
        title += f", the first {SHOWN}"
    return [table(title, ("line", "outcome", "image", "why"), rows), words]
