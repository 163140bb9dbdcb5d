"""``docreco suspects``: list annotations that may be wrong, and why."""

from typing import Annotated

import typer

from services.cli.limits import limited, open_images
from services.cli.options import tabular
from services.cli.output import Output, Table, cell, cell_of_lines, counted
from services.cli.rows import ImageRow, image_row
from services.common.domain.image_filter import ImageFilter, Limits
from services.common.domain.texts import number_of
from services.quality.suspect_search import Suspect, Suspects, find_suspects
from services.quality.suspects import FEWEST, SENTENCES, Reason


class SuspectRow(ImageRow):
    """A displayed suspect."""

    reasons: list[str]
    """Codes."""
    sentences: list[str]
    by: str
    """Author of the annotation."""


@tabular
@limited
async def suspects(
    *,
    limits: Limits,
    reason: Annotated[
        list[Reason] | None, typer.Option(help="Only suspects for this reason; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Limit of suspects.")] = 20,
    output: Output,
) -> None:
    """List annotations that may be wrong, the most suspect first; confirm or fix them in review."""
    async with open_images(limits) as images:
        found = await find_suspects(images, ImageFilter(limits), most=limit, only=reason or ())
    rows = [_row(each, limits) for each in found.found]
    document = {
        "annotated": found.annotated,
        "suspects": found.total,
        "reasons": dict(found.counts),
        "images": [row.model_dump() for row in rows],
    }
    output.print(document, _table(rows), _summary(found))


def _row(suspect: Suspect, limits: Limits) -> SuspectRow:
    annotation = suspect.document.annotation
    return SuspectRow(
        **image_row(suspect.document, limits).model_dump(),
        reasons=[str(each) for each in suspect.reasons],
        sentences=[str(SENTENCES[each]) for each in suspect.reasons],
        by=annotation.by if annotation else "",
    )


def _table(rows: list[SuspectRow]) -> Table:
    columns = ["image", "reasons", "annotation", "prediction", "score", "by", "source"]
    lines = [
        [
            cell(row.image, short=row.short_image),
            cell_of_lines(row.reasons),
            cell(row.annotation),
            cell(row.prediction),
            cell(row.score, form=".3f"),
            cell(row.by),
            cell(row.origin),
        ]
        for row in rows
    ]
    return Table("The most suspect annotations", columns, lines, empty="No annotation is suspect.")


def _summary(found: Suspects) -> str:
    words = f"{found.total} of {number_of(found.annotated, 'annotation')} suspect"
    if found.total:
        counts = {str(reason): found.counts[reason] for reason in Reason}
        words += f": {counted(counts)}. Confirm or fix them on the review page: /suspects"
    if found.norms.of_all is None:
        words += f". Fewer than {FEWEST} are annotated: texts were not compared with predictions"
    return f"{words}."
