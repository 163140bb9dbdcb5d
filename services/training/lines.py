"""The labelled lines of an export, read by the library that its layout is for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets  # type: ignore[import-untyped]

from app.images import Pixels, decode
from app.settings import OcrSettings
from services.common.domain.errors import PermanentError
from services.common.domain.labels import Origin
from services.datasets.manifest import Format, Manifest, read_manifest

LAYOUTS = (Format.HF, Format.PARQUET)
"""What ``datasets.load_dataset`` reads."""
TRAIN, VALIDATION = "train", "validation"

MOST_DECODED = 1000
"""Images that are kept decoded: those of a small export, which has many epochs."""


class UnusableExportError(PermanentError):
    """There is nothing in an export that a model could be trained on."""

    code = "unusable_export"


@dataclass(frozen=True)
class Line:
    """An image of a line, and what is to be read in it."""

    content: bytes
    """The file: as it was collected, or rewritten with the pixels that the API reads."""
    text: str
    is_annotated: bool
    """Whether a person has said so; else models agree on it."""

    @property
    def pixels(self) -> Pixels:
        """Decoded as the OCR API does it, so that a model is trained on what it will be given.

        Raises:
            RefusedError: The API would refuse it.
        """
        return _decoded(self.content)


@dataclass(frozen=True)
class Export:
    """What ``docreco export`` has written."""

    manifest: Manifest
    lines: Mapping[str, Sequence[Line]]
    """By split; one that is empty is missing."""

    @property
    def train(self) -> Sequence[Line]:
        """What to learn from."""
        return self.lines.get(TRAIN, ())

    @property
    def validation(self) -> Sequence[Line]:
        """What tells during training how it goes."""
        return self.lines.get(VALIDATION, ())


def read_export(folder: Path) -> Export:
    """Read an export of a layout that Hugging Face datasets reads.

    Raises:
        UnreadableManifestError: The folder is no export.
        UnusableExportError: It has another layout, or nothing to learn from.
    """
    manifest = read_manifest(folder)
    if manifest.query.format not in LAYOUTS:
        raise UnusableExportError(
            f"{folder} is laid out for {manifest.query.format}, and this reads hf and parquet: "
            f"docreco export --from-manifest {folder}/manifest.json --format hf --out OTHER"
        )
    export = Export(manifest, _read(folder) if manifest.images else {})
    if not any(line.is_annotated for line in export.train):
        raise UnusableExportError(
            f"{folder} has no annotated images to train on: annotate some (docreco annotate, or "
            "the review page), and export again"
        )
    return export


@lru_cache(maxsize=MOST_DECODED)
def _decoded(content: bytes) -> Pixels:
    return decode(content, max_pixels=OcrSettings().max_image_pixels).pixels


def _read(folder: Path) -> dict[str, list[Line]]:
    datasets.disable_progress_bars()
    with TemporaryDirectory(prefix="docreco-train-") as cache:
        loaded = datasets.load_dataset(str(folder), cache_dir=cache)
        return {
            str(split): [_line(row) for row in rows.cast_column("image", _AS_A_FILE)]
            for split, rows in loaded.items()
        }


_AS_A_FILE = datasets.Image(decode=False)


def _line(row: Mapping[str, Any]) -> Line:
    image = row["image"]  # bytes where they are inside of the data set, else the file's path
    content = image["bytes"] or Path(image["path"]).read_bytes()
    return Line(content, row["text"], is_annotated=row["origin"] == Origin.ANNOTATION)
