"""Options that several commands have."""

from typing import Annotated

import typer

OnlyCorrected = Annotated[
    bool,
    typer.Option(
        "--only-corrected",
        help="No text that a person only accepted as a model had read it, or may have.",
    ),
]
