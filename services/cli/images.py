"""``docreco images``: list images."""

import csv
import sys
from collections.abc import Sequence
from enum import StrEnum
from io import StringIO
from typing import Annotated

import typer

from services.cli.errors import ExitStatus
from services.cli.limits import known_names, limited
from services.cli.output import Output, plain, run
from services.cli.rows import ImageRow, image_row, image_table
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import open_index
from services.common.domain.image_filter import NO_LIMITS, ImageFilter, Limits
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


@limited
def images(
    *,
    limits: Limits,
    status: Annotated[Status | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Limit of images.")] = 20,
    worst_first: Annotated[
        bool,
        typer.Option("--worst-first", "--worst", help="Lowest scores first, of predicted images."),
    ] = False,
    wide: Annotated[
        bool, typer.Option("--wide", help="Full keys, in lines of any length.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV with full keys.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list.")] = False,
) -> None:
    """List images with prediction, score, annotation and character error rate, newest first."""
    if as_csv and as_json:
        raise typer.BadParameter("either --csv or --json, not both")
    output = Output(as_json=as_json, is_wide=wide)

    async def work() -> ExitStatus:
        async with open_index(MongoSettings()) as index:
            found = ImageRepository(index.images)
            rows = await find_rows(found, limits, status, limit=limit, worst_first=worst_first)
            none = "No such image."
            if not rows and limits != NO_LIMITS:
                none += f" {await known_names(found)}"
        order = "lowest scores first" if worst_first else "newest first"
        if as_csv:
            write_csv(rows)
            return ExitStatus.OK
        title = f"{len(rows)} images, {order}"
        shown = image_table(title, rows, is_wide=wide) if rows else none
        output.answer([row.model_dump() for row in rows], shown)
        return ExitStatus.OK

    run(output, work)


def write_csv(rows: Sequence[ImageRow]) -> None:
    """Write rows to standard output; a terminal gets no control characters."""
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
    images: ImageRepository,
    limits: Limits,
    status: Status | None,
    *,
    limit: int,
    worst_first: bool,
) -> list[ImageRow]:
    """Return matching images (``limit`` 0: no limit).

    Raises:
        IndexUnavailableError: MongoDB does not answer.
    """
    wanted = status or (Status.PREDICTED if worst_first else None)
    where = ImageFilter(limits, status=(wanted.value,) if wanted else ())
    sort = WORST_FIRST if worst_first else NEWEST_FIRST
    found = images.find(where, sort=sort, limit=limit)
    return [image_row(each, limits) async for each in found]
