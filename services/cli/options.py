"""Options that several commands have."""

from typing import Annotated

import typer

from services.common.domain.image_filter import Limits
from services.datasets.grouping import GROUPINGS, Splitting

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Dry run: write nothing.")]
Encoding = Annotated[
    str | None, typer.Option(help="Encoding of lists and tables, such as windows-1250.")
]
ColumnOfUrls = Annotated[
    str | None,
    typer.Option(help="Name of the column of URLs, keys or file names; default: detected."),
]
ColumnOfTexts = Annotated[
    str | None, typer.Option(help="Name of the column of texts; default: detected.")
]
OnlyCorrected = Annotated[
    bool,
    typer.Option(
        "--only-corrected",
        help="No text that a person only accepted as a model had read it, or may have.",
    ),
]
GroupBy = Annotated[
    str,
    typer.Option(
        help="Images that have it in common are in one part: "
        f"{', '.join(GROUPINGS)} or metadata.KEY."
    ),
]
UseSplit = Annotated[
    bool, typer.Option("--use-split", help="The part that a data set has given comes first.")
]


def to_splitting(split: str, group_by: str, *, use_given: bool, limits: Limits) -> Splitting:
    """Return the rule that options say.

    Raises:
        typer.BadParameter: The shares or the grouping are invalid.
    """
    try:
        return Splitting.parse(split, group_by, use_given=use_given, limits=limits)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--split, --group-by") from error
