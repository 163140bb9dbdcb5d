"""Manifest of an export: contents and query, sufficient to reproduce it."""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from services.common.domain.annotations import NORMALISATION
from services.common.domain.errors import PermanentError
from services.common.domain.image_filter import Limits
from services.common.domain.labels import Origin
from services.common.domain.normal_form import Difference
from services.common.domain.page import PageOfLine
from services.common.domain.records import How, first_problem
from services.common.domain.texts import number_of
from services.datasets.splits import parse_split

FEWEST_TO_MEASURE = 50
"""Images of a split below which its error rate says little."""
FILE = "manifest.json"
RECORDS_FILE = "manifest.jsonl"

SplitName = Literal["train", "validation", "test"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""Part of file names, so it is always validated."""


class Format(StrEnum):
    """Layout of a data set."""

    HF = "hf"
    TROCR = "trocr"
    PADDLEOCR = "paddleocr"
    DOCTR = "doctr"
    KRAKEN = "kraken"
    PARQUET = "parquet"
    PAGE = "page"
    ALTO = "alto"

    @property
    def is_of_pages(self) -> bool:
        """Whether it has a file for each page, and none for a line."""
        return self in {Format.PAGE, Format.ALTO}


class UnreadableManifestError(PermanentError):
    """A manifest is missing or invalid."""

    code = "unreadable_manifest"


class ManifestRecord(BaseModel):
    """One image of an export."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    sha256: Sha256
    """Of the original bytes; also those of the file, unless it was rewritten."""
    key: str
    """In the bucket of images."""
    etag: str
    split: SplitName
    label: str
    origin: Origin
    agreement: float | None
    score: float | None
    """Of the prediction, also if the label is an annotation."""
    engine: str | None
    model_version: str | None
    hosts: list[str]
    """Source of the image; empty for an upload."""
    name: str | None = None
    """As the image was submitted: of a file, or of a member of an archive."""
    collection: str | None = None
    group: str | None = None
    licence: str | None = None
    metadata: dict[str, JsonValue] | None = None
    by: str | None = None
    """Annotator; None for a predicted label."""
    how: How | None = None
    """Origin of an annotation, if known."""
    page: PageOfLine | None = None
    """Of a line that came with its page: where it is there."""
    split_groups: list[str] = Field(default_factory=list)
    """Groups of images that belong together; the first one decided about the split."""
    normalisation: int = NORMALISATION
    rewritten: Difference | None = None
    """Reason for a PNG of the normal form instead of the original bytes."""


class ExportQuery(Limits):
    """Query of an export."""

    format: Format
    bucket: str
    only_annotated: bool = False
    only_corrected: bool = False
    only_agreed: bool = False
    min_agreement: Annotated[float, Field(ge=0, le=1)] = 0.9
    split: str = "80/10/10"
    group_by: str = "group"
    use_split: bool = False
    title: str | None = None
    languages: tuple[str, ...] = ()
    normalisation: int = NORMALISATION


class SinceLast(BaseModel):
    """Images of the previous export in the same folder that are not in this one."""

    created_at: datetime
    left_out: int
    """Images that still exist, but no longer match."""
    removed: list[Sha256]
    """Images that were removed: copies must be deleted, too."""


class Manifest(BaseModel):
    """Description of an export."""

    version: Literal[1] = 1
    created_at: datetime
    query: ExportQuery
    images: int
    splits: dict[SplitName, int]
    excluded: dict[str, int]
    """Excluded documents by reason; ``duplicate`` counts equal bytes."""
    lost: dict[str, int]
    """Selected images that could not be read, by reason."""
    rewritten: dict[str, int] = Field(default_factory=dict)
    """Rewritten images, by reason."""
    groups: int = 0
    groups_in_several_splits: int = 0
    """Groups with images in more than one part: 0, unless a given split or equal bytes in two
    groups are the cause."""
    page_images_missing: int = 0
    """Of an export of pages: those without their image, which is not stored, or changed since."""
    since_last: SinceLast | None = None

    @property
    def few(self) -> dict[SplitName, int]:
        """Splits that have so few images that little can be learnt or measured by them."""
        names: tuple[SplitName, ...] = get_args(SplitName)
        shares = zip(names, parse_split(self.query.split).shares, strict=False)
        # Splits that sources give need not be those that the shares name
        named = [name for name, share in shares if share and not self.query.use_split]
        counts = {**dict.fromkeys(named, 0), **self.splits}
        return {name: count for name, count in counts.items() if count < FEWEST_TO_MEASURE}

    @property
    def warnings(self) -> list[str]:
        """Reasons why little can be learnt or measured, with what to do."""
        ask = "annotate more images" + ("" if self.query.use_split else ", or change --split")
        return [
            f"{name} has {number_of(count, 'image')}, which says little: {ask}"
            for name, count in self.few.items()
        ]


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an export.

    Raises:
        UnreadableManifestError: It is missing or invalid.
    """
    path = folder / FILE
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise UnreadableManifestError(f"{path} can't be read: {_first_line(error)}") from error


def read_records(folder: Path) -> Iterator[ManifestRecord]:
    """Yield the images of an export, read line by line.

    Raises:
        UnreadableManifestError: The file is missing, or a line is invalid.
    """
    path = folder / RECORDS_FILE
    try:
        with path.open("rb") as lines:
            for line in lines:
                yield ManifestRecord.model_validate_json(line)
    except (OSError, ValidationError) as error:
        raise UnreadableManifestError(f"{path} can't be read: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return first_problem(error) if isinstance(error, ValidationError) else str(error)
