"""``docreco images``: list images."""

from enum import StrEnum
from typing import Annotated

import typer

from services.cli.limits import known_names, limited, open_images
from services.cli.options import tabular
from services.cli.output import Output
from services.cli.rows import ImageRow, image_row, image_table
from services.common.adapters.image_repository import ImageRepository
from services.common.domain.image_filter import NO_LIMITS, ImageFilter, Limits
from services.common.domain.texts import number_of

NEWEST_FIRST = (("indexed_at", -1), ("_id", 1))
WORST_FIRST = (("prediction.score", 1), ("_id", 1))


class Status(StrEnum):
    """Status of a document."""

    PREDICTED = "predicted"
    REJECTED = "rejected"
    REMOVED = "removed"


@tabular
@limited
async def images(
    *,
    limits: Limits,
    status: Annotated[Status | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Limit of images.")] = 20,
    worst_first: Annotated[
        bool,
        typer.Option("--worst-first", "--worst", help="Lowest scores first, of predicted images."),
    ] = False,
    output: Output,
) -> None:
    """List images with prediction, score, annotation and character error rate, newest first."""
    async with open_images() as found:
        rows = await find_rows(found, limits, status, limit=limit, worst_first=worst_first)
        is_limited = not rows and limits != NO_LIMITS
        hints = [await known_names(found)] if is_limited else []
    order = "lowest scores first" if worst_first else "newest first"
    shown = image_table(f"{number_of(len(rows), 'image')}, {order}", rows)
    output.print([row.model_dump() for row in rows], shown, *hints)


async def find_rows(
    images: ImageRepository,
    limits: Limits,
    status: Status | None,
    *,
    limit: int,
    worst_first: bool,
) -> list[ImageRow]:
    """Return matching images (``limit`` 0: no limit)."""
    wanted = status or (Status.PREDICTED if worst_first else None)
    where = ImageFilter(limits, status=(wanted.value,) if wanted else ())
    sort = WORST_FIRST if worst_first else NEWEST_FIRST
    found = images.find(where, sort=sort, limit=limit)
    return [image_row(each, limits) async for each in found]
