"""``docreco report``: quality of the predictions of a period, as a table or an HTML page."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from app.settings import OcrSettings
from services.cli.errors import CommandError, status_of
from services.cli.limits import limited, open_images
from services.cli.options import tabular
from services.cli.output import Cell, Output, Table, cell
from services.cli.report_figures import Figures
from services.cli.report_images import read_thumbnails
from services.cli.report_page import report_page
from services.common.adapters.image_repository import ImageRepository
from services.common.domain.errors import ObjectStoreUnavailableError
from services.common.domain.image_filter import NO_LIMITS, ImageFilter, Limits
from services.common.domain.texts import number_of
from services.quality.agreement import Agreements, count_agreement
from services.quality.annotated import reference_text
from services.quality.page_tallies import FIELDS as FIELDS_OF_PAGES
from services.quality.tally import Tally

PERIOD = timedelta(days=7)
_SOURCE = tuple(f"sources.{name}" for name in ("url", "collection", "name", "kind"))
_NAMES = (
    "prediction",
    "annotation",
    "double_reading.state",
    "sha256",
    "status",
    "error.code",
    *_SOURCE,
)
FIELDS = dict.fromkeys((*_NAMES, *FIELDS_OF_PAGES), 1)


@tabular
@limited
async def report(
    *,
    limits: Limits,
    html: Annotated[
        Path | None, typer.Option(help="Write an HTML page with plots to this file.")
    ] = None,
    critical: Annotated[
        float, typer.Option(min=0, max=1, help="Critical threshold of the mean score.")
    ] = 0.5,
    with_images: Annotated[
        bool, typer.Option("--images/--no-images", help="Whether the page holds small images.")
    ] = True,
    output: Output,
) -> None:
    """Show how good the predictions of a period (the last 7 days) are, and the worst of them."""
    until = limits.until or datetime.now(tz=UTC)
    since = limits.since or until - PERIOD
    if since >= until:
        raise typer.BadParameter("it is not before the end of the period", param_hint="--since")
    low_score = OcrSettings().low_score_threshold
    sources = limits.model_copy(update={"since": None, "until": None})
    async with open_images(sources) as images:
        figures = Figures(since, until, low_score)
        await collect(images, figures, sources)
        figures.agreements = await count_agreement(images, sources)
    if html is not None:
        wanted = [each.image for each in figures.worst()] if with_images else []
        thumbnails = await _thumbnails(wanted, output)
        write_page(html, report_page(figures, critical=critical, thumbnails=thumbnails))
        output.stderr.print(cell(f"written: {html}"))
    remarks: list[Any] = [figures.remark] if figures.remark else []
    if figures.agreements.total.images:
        remarks.append(agreement_table(figures.agreements))
    output.print(figures.document(), figure_table(figures), *remarks, worst_table(figures))


async def _thumbnails(images: list[str], output: Output) -> dict[str, str]:
    try:
        return await read_thumbnails(images) if images else {}
    except ObjectStoreUnavailableError as error:
        output.stderr.print(cell(f"the page has no images: {error}"))
        return {}


async def collect(images: ImageRepository, figures: Figures, limits: Limits = NO_LIMITS) -> None:
    """Count what was predicted in a period, each image once, whichever copies of it there are."""
    # Predictions of the period were indexed in it or later, and that field has an index
    where, order = ImageFilter(limits, changed_since=figures.since), [("indexed_at", 1)]
    # Of copies, those that a person annotated count first, then those of lists
    written = replace(where, annotated=True)
    for has_given in (False, True):
        async for document in images.find(written, sort=order, fields=FIELDS):
            is_given = document.annotation is not None and document.annotation.is_given
            if reference_text(document) is not None and is_given <= has_given:
                figures.add(document)
    async for document in images.find(where, sort=order, fields=FIELDS):
        figures.add(document)


def figure_table(figures: Figures) -> Table:
    """Return the figures in total, and by model version, origin of the text, and page."""
    columns = [
        "model",
        "predictions",
        "mean score",
        "low scores",
        "share",
        "expected CER",
        "of texts",
    ]
    columns += ["annotated", "CER"]
    rows = [_row("all", figures.total)]
    rows += [_row(name, tally) for name, tally in sorted(figures.models.items())]
    rows += [_row(f"text {name}", tally) for name, tally in sorted(figures.hows.items())]
    rows += [
        _row(f"{kind} {name.shown}", tally)
        for kind, tallies in figures.lines.groups()
        for name, tally in tallies
    ]
    title = f"Since {figures.since:%Y-%m-%d %H:%M} UTC: "
    title += f"{figures.per_minute:.2f} predictions per minute, "
    return Table(f"{title}{number_of(figures.rejected.total(), 'image')} rejected", columns, rows)


def agreement_table(agreements: Agreements) -> Table:
    """Return how often two people read an image alike, whenever they did."""
    columns = ["images", "read twice", "same text", "character agreement", "to decide"]
    rows: list[list[Cell]] = [
        [
            *(cell(words), cell(each.images), cell(each.exact_share, form=".1%")),
            *(cell(each.character_agreement, form=".1%"), cell(each.undecided)),
        ]
        for words, each in agreements.rows
    ]
    return Table("Agreement of annotators, of all images that two people have read", columns, rows)


def worst_table(figures: Figures) -> Table:
    """Return the images with the lowest scores that are not annotated yet."""
    rows = [
        [
            cell(each.score, form=".3f"),
            *map(cell, (each.prediction, each.source or each.image)),
        ]
        for each in figures.worst()
    ]
    return Table("Lowest scores, not annotated", ["score", "prediction", "source"], rows)


def _row(name: str, tally: Tally) -> list[Cell]:
    return [
        *(cell(name), cell(tally.images), cell(tally.mean, form=".3f")),
        *(cell(tally.low), cell(tally.low_share, form=".1%")),
        *(cell(tally.expected_error_rate, form=".1%"), cell(tally.expected_images)),
        *(cell(tally.annotated), cell(tally.error_rate, form=".1%")),
    ]


def write_page(path: Path, page: str) -> None:
    """Write a page.

    Raises:
        CommandError: It can't be written.
    """
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise CommandError(
            f"{path} can't be written: {error.strerror}", status=status_of(error)
        ) from error
