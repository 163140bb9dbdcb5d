"""``docreco images``: what is known of the images, the worst read first where asked."""

import csv
import sys
from collections.abc import Sequence
from enum import StrEnum
from io import StringIO
from typing import Annotated

import typer

from services.cli.errors import ExitStatus
from services.cli.output import Output, plain, run
from services.cli.rows import ImageRow, image_row, image_table
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Database, Document, open_index
from services.common.runtime.settings import MongoSettings

NEWEST_FIRST = (("indexed_at", -1), ("_id", 1))
CSV_COLUMNS = (
    *("image", "status", "prediction", "score", "annotation", "cer"),
    *("error_code", "error_detail", "sources_count", "collection", "name", "url"),
)
WORST_FIRST = (("prediction.score", 1), ("_id", 1))


class Status(StrEnum):
    """Status of a document."""

    PREDICTED = "predicted"
    REJECTED = "rejected"
    REMOVED = "removed"


def images(
    *,
    status: Annotated[Status | None, typer.Option(help="Only these.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only those that this batch brought.")] = None,
    collection: Annotated[str | None, typer.Option(help="Only those of this collection.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 20,
    worst_first: Annotated[
        bool,
        typer.Option(
            "--worst-first", "--worst", help="Lowest scores first, of those that were read."
        ),
    ] = False,
    wide: Annotated[
        bool, typer.Option("--wide", help="Whole keys, in lines as long as needed.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV with whole keys.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list.")] = False,
) -> None:
    """List images with prediction, score, annotation and character error rate, newest first."""
    if as_csv and as_json:
        raise typer.BadParameter("either --csv or --json, not both")
    output = Output(as_json=as_json, is_wide=wide)

    async def work() -> ExitStatus:
        async with open_index(MongoSettings()) as index:
            rows = await find_rows(
                index,
                status=status,
                batch=batch,
                collection=collection,
                limit=limit,
                worst_first=worst_first,
            )
        order = "lowest scores first" if worst_first else "newest first"
        if as_csv:
            write_csv(rows)
            return ExitStatus.OK
        title = f"{len(rows)} images, {order}"
        shown = image_table(title, rows, is_wide=wide) if rows else "No such image."
        output.answer([row.model_dump() for row in rows], shown)
        return ExitStatus.OK

    run(output, work)


def write_csv(rows: Sequence[ImageRow]) -> None:
    """Write rows to standard output; a terminal gets no control characters of strangers."""
    is_terminal = sys.stdout.isatty()
    made = StringIO()
    writer = csv.writer(made)
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        cells = [getattr(row, name) for name in CSV_COLUMNS[:-1]]
        cells.append(row.sources[0] if row.sources else None)
        values = ["" if cell is None else str(cell) for cell in cells]
        writer.writerow(map(plain, values) if is_terminal else values)
    sys.stdout.write(made.getvalue())


async def find_rows(
    index: Database,
    *,
    status: Status | None = None,
    batch: str | None = None,
    collection: str | None = None,
    limit: int = 0,
    worst_first: bool = False,
) -> list[ImageRow]:
    """Return the images that fit (``limit`` 0: all of them).

    Raises:
        IndexUnavailableError: MongoDB does not answer.
    """
    where: Document = {}
    if status is not None:
        where["status"] = status.value
    elif worst_first:
        where["status"] = Status.PREDICTED.value
    if batch is not None:
        where["sources.batch_id"] = batch
    if collection is not None:
        where["sources.collection"] = collection
    sort = WORST_FIRST if worst_first else NEWEST_FIRST
    images = ImageRepository(index.images)
    found = images.find(where, sort=sort, limit=limit)
    return [image_row(each, batch=batch, collection=collection) async for each in found]
