"""Query parameters by which the sender of a list says how it is to be read."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Query

from services.common.domain.tables.columns import ReadingOptions


@dataclass(frozen=True)
class ListParameters:
    """Of ``POST /batches``; with a form, too, they are in the address."""

    encoding: Annotated[
        str | None,
        Query(max_length=40, description="Of its text, such as windows-1250; by default found."),
    ] = None
    url_column: Annotated[
        str | None,
        Query(min_length=1, max_length=200, description="Name of the column of URLs."),
    ] = None
    text_column: Annotated[
        str | None,
        Query(min_length=1, max_length=200, description="Name of the column of annotations."),
    ] = None
    strict: Annotated[
        bool,
        Query(
            description="Whether to refuse the list where a row is rejected, or something of it "
            "was not taken as it stands (422 `strict_list`)."
        ),
    ] = False
    dry_run: Annotated[
        bool, Query(description="Whether only to show how it would be taken (200, not 202).")
    ] = False

    @property
    def list_options(self) -> ReadingOptions:
        """How to read the list."""
        return ReadingOptions(self.encoding, self.url_column, self.text_column)
