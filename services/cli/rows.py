"""Convert a document of ``images`` to a displayed row with its character error rate."""

import re
from collections.abc import Callable, Mapping, Sequence

from pydantic import BaseModel

from services.cli.output import Cell, Table, cell
from services.common.domain.accuracy import hypothesis_of
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import NO_LIMITS, Limits
from services.common.domain.records import UPLOADED, Source
from services.quality.annotated import reference_text

_HASH = re.compile(r"([0-9a-f]{12})[0-9a-f]{52}")

CSV_COLUMNS = (
    *("image", "status", "prediction", "score", "annotation", "cer"),
    *("error_code", "error_detail", "sources_count", "collection", "name"),
)
"""With ``url``, the first of its sources."""
LOW_SCORE = 0.5
"""Lower scores are shown in red; the service's threshold is ``OCR_LOW_SCORE_THRESHOLD``."""


class ImageRow(BaseModel):
    """A displayed image: of ``images``, ``suspects`` and ``suggest`` with ``--json``."""

    image: str
    """``bucket/key``."""
    status: str
    prediction: str | None
    score: float | None
    annotation: str | None
    cer: float | None
    """Character error rate; None without a prediction and a text that counts as right."""
    name: str | None
    """Of the file, or path of the member; None for a URL."""
    collection: str | None
    origin: str
    """Displayed source: a URL, or a name in a collection."""
    sources: list[str]
    """Source URLs, the first of very many; may be empty."""
    sources_count: int
    placeholder: bool
    """Whether very many URLs lead to it."""
    annotation_conflict: str | None
    """Reason why a placeholder has no annotation."""
    error_code: str | None
    error_detail: str | None

    @property
    def short_image(self) -> str:
        """Its name; without one, the end of the key with a truncated hash."""
        return _HASH.sub(r"\1…", self.label)

    @property
    def label(self) -> str:
        """Displayed name: the end of the source's path, or of the key."""
        url = self.sources[0].partition("?")[0] if self.sources else None
        origin = self.name or url or self.image
        return origin.rstrip("/").rpartition("/")[2] or origin


def image_row(document: ImageDocument, limits: Limits = NO_LIMITS) -> ImageRow:
    """Return what a person is shown of a document, first of all the source that was asked for."""
    sources = limits.first(document.sources)
    first = next((each for each in sources if each.name or each.collection), Source())
    prediction, annotation, error = document.prediction, document.annotation, document.error
    reference, cer = reference_text(document), None
    if prediction is not None and reference is not None:
        cer = hypothesis_of(prediction.text, reference=reference).errors / len(reference)
    return ImageRow(
        image=document.id,
        status=str(document.status),
        prediction=prediction.text if prediction else None,
        score=prediction.score if prediction else None,
        annotation=annotation.text if annotation else None,
        cer=cer,
        name=first.name,
        collection=first.collection,
        origin=sources[0].origin if sources else UPLOADED,
        sources=[source.url for source in sources if source.url],
        sources_count=max(document.sources_count, len(document.sources)),
        placeholder=document.placeholder,
        annotation_conflict=None if annotation else document.annotation_conflict,
        error_code=error.code if error else None,
        error_detail=error.detail if error else None,
    )


def image_table(title: str, rows: Sequence[ImageRow], *, with_origin: bool = True) -> Table:
    """Return the table of images, with status and source, or only predictions."""
    shown = {**COLUMNS, **(ORIGIN_COLUMNS if with_origin else {})}
    lines = [
        [cell(row.image, short=row.short_image) if with_origin else cell(row.short_image)]
        + [to_cell(row) for to_cell in shown.values()]
        for row in rows
    ]
    columns = ["image", *shown]
    values = [
        [*(getattr(row, name) for name in CSV_COLUMNS), next(iter(row.sources), None)]
        for row in rows
    ]
    return Table(title, columns, lines, empty="No such image.", csv=((*CSV_COLUMNS, "url"), values))


def _source(row: ImageRow) -> Cell:
    if row.placeholder and row.sources:
        conflict = ", whose texts conflict" if row.annotation_conflict else ""
        return cell(
            f"placeholder of {row.sources_count} URLs{conflict}: {row.sources[0]}", "yellow"
        )
    return cell(row.origin)


def _status(row: ImageRow) -> Cell:
    if row.error_code:
        return cell(f"{row.status}: {row.error_code}", "red")
    return cell(row.status)


COLUMNS: Mapping[str, Callable[[ImageRow], Cell]] = {
    "prediction": lambda row: cell(row.prediction),
    "score": lambda row: cell(row.score, "red" if (row.score or 0) < LOW_SCORE else "", form=".3f"),
    "annotation": lambda row: cell(row.annotation),
    "CER": lambda row: cell(row.cer, form=".0%"),
}
"""Of the table of images, after the image."""
ORIGIN_COLUMNS: Mapping[str, Callable[[ImageRow], Cell]] = {"status": _status, "source": _source}
