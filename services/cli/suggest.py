"""``docreco suggest``: list the images whose annotation would teach most."""

from typing import Annotated

import typer

from services.cli.limits import limited, open_images
from services.cli.options import tabular
from services.cli.output import Output, Table, cell
from services.cli.rows import ImageRow, image_row
from services.common.adapters.image_repository import ImageRepository
from services.common.domain.image_filter import ImageFilter, Limits
from services.common.domain.texts import number_of
from services.datasets.suggestion import Suggestions, find_suggestions


class SuggestedRow(ImageRow):
    """A displayed suggestion."""

    group: str
    """Source whose labels count."""
    uncertainty: float
    """Share of images with the same or a higher score."""
    disagreement: float
    labels: int
    """Labels of the group, with those of earlier suggestions."""


@tabular
@limited
async def suggest(
    *,
    limits: Limits,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Limit of images.")] = 20,
    output: Output,
) -> None:
    """List images to annotate next: unsure readings, disagreement, and sources with few labels."""
    async with open_images(limits) as images:
        chosen = await find_suggestions(images, ImageFilter(limits), most=limit)
        rows = await _rows(images, chosen, limits)
    images_of = f"{number_of(chosen.candidates, 'image')} without annotation"
    words = f"{len(rows)} of {images_of}{', a random sample' if chosen.is_sample else ''}."
    document = {
        "candidates": chosen.candidates,
        "is_sample": chosen.is_sample,
        "images": [row.model_dump() for row in rows],
    }
    output.print(document, _table(rows), words)


async def _rows(images: ImageRepository, chosen: Suggestions, limits: Limits) -> list[SuggestedRow]:
    ids = frozenset(each.candidate.image for each in chosen.found)
    documents = {each.id: each async for each in images.find(ImageFilter(ids=ids))}
    return [
        SuggestedRow(
            **image_row(documents[each.candidate.image], limits).model_dump(),
            group=each.candidate.source,
            uncertainty=each.uncertainty,
            disagreement=each.candidate.disagreement,
            labels=each.labels,
        )
        for each in chosen.found
        if each.candidate.image in documents  # it may have been removed meanwhile
    ]


def _table(rows: list[SuggestedRow]) -> Table:
    columns = ["image", "prediction", "score", "uncertainty", "disagreement", "labels", "group"]
    lines = [
        [
            cell(row.image, short=row.short_image),
            cell(row.prediction),
            *(cell(each, form=".3f") for each in (row.score, row.uncertainty, row.disagreement)),
            cell(row.labels),
            cell(row.group),
        ]
        for row in rows
    ]
    return Table("To annotate next", columns, lines, empty="No image waits for its annotation.")
