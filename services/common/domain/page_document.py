"""Describe a page: the document of ``pages``."""

from datetime import datetime
from typing import Annotated, Literal, get_args

from pydantic import WithJsonSchema

from services.common.domain.page import GroundTruth, Line, ProposedText, Turn
from services.common.domain.records import EMPTY_IF_NULL, Record, required
from services.common.domain.stored_object import StoredObject


class PagePart(Record):
    """The document that a page is a part of."""

    model_config = required("sha256", "key", "number", "of")

    sha256: str = ""
    key: str = ""
    """In the bucket of pages."""
    number: int = 1
    """Of the page, from 1."""
    of: int = 1
    """Number of the document's pages."""


class Run(Record):
    """One segmentation of a page."""

    model_config = required("id", "detector", "version", "at")

    id: str = ""
    detector: str = ""
    version: str = ""
    """Of the detector, with the settings that change what it finds."""
    at: datetime | None = None
    turn: Turn = 0
    """Of the page, when it was segmented."""
    found: int = 0
    """Lines in all."""
    kept: int = 0
    """Of them, lines that an earlier run had found."""
    new: int = 0
    gone: int = 0
    """Lines of earlier runs that this one did not find."""
    ms: float | None = None


PageStatus = Literal["segmented", "rejected", "removed"]


class PageDocument(StoredObject):
    """One page: a document of ``pages``.

    ``PageDocument.absent`` stands for a missing document; fields that were not projected have
    their defaults. Also a PDF or TIFF of several pages has one, without lines.
    """

    model_config = required(
        *("_id", "revision", "bucket", "key", "sources", "lines", "runs", "status"),
        *("sequencer", "indexed_at"),
    )

    document: PagePart | None = None
    rendered: int | None = None
    """Of a PDF or TIFF: number of its pages, each of which is a document of its own."""
    unrendered: int | None = None
    """Of them, the last ones, which are not rendered yet."""
    rendering_seconds: float | None = None
    """CPU time that its pages have taken so far."""
    group: str | None = None
    """Unit of splits: the document, or as given by the importer."""
    status: Annotated[
        PageStatus | None, WithJsonSchema({"type": "string", "enum": get_args(PageStatus)})
    ] = None
    turn: Turn = 0
    """As a person said: coordinates are those of the page as it is stored."""
    turned_at: datetime | None = None
    """When they said it: an older request, which arrives late, has no effect."""
    runs: Annotated[tuple[Run, ...], EMPTY_IF_NULL] = ()
    lines: Annotated[tuple[Line, ...], EMPTY_IF_NULL] = ()
    ground_truth: GroundTruth | None = None
    text_layer: ProposedText | None = None
    """Of a page of a PDF with text, at the last run."""

    @property
    def name(self) -> str:
        """Displayed name: of its file or URL, and its number in a PDF or TIFF."""
        if self.document is not None:
            return f"{self.document.key}, page {self.document.number}"
        names = (source.name or source.url for source in self.sources)
        return next((name for name in names if name), self.key)

    @property
    def rendered_so_far(self) -> int:
        """Number of the first pages of a PDF or TIFF that were rendered; some may be erased."""
        return (self.rendered or 0) - (self.unrendered or 0)

    @property
    def is_detected(self) -> bool:
        """Whether the segmenter finds its lines: no transcription has them, no page of its own."""
        return self.ground_truth is None and self.rendered is None

    @property
    def is_cuttable(self) -> bool:
        """Whether people may draw its lines."""
        return self.is_detected and self.status == "segmented"

    @property
    def current(self) -> list[Line]:
        """The lines of the page as it is segmented now, in reading order."""
        lines = [line for line in self.lines if line.state == "current"]
        return sorted(lines, key=lambda line: line.order)
