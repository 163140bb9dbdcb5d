"""Labelled lines of an export in any layout."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from pyarrow import parquet

from app.engines.lines import MODEL_HEIGHT
from app.images import Pixels, decode, measure
from app.settings import OcrSettings
from services.common.domain.errors import PermanentError
from services.common.domain.labels import Origin
from services.common.domain.records import UNKNOWN_HOW
from services.datasets.manifest import (
    Format,
    Manifest,
    ManifestRecord,
    SplitName,
    read_manifest,
    read_records,
)

TRAIN: SplitName = "train"
VALIDATION: SplitName = "validation"
TEST: SplitName = "test"
HELD_OUT = 0.1
"""Least share of lines that validate where the export has no validation split."""
ROWS = 100
"""Of a parquet file, read at once."""


class UnusableExportError(PermanentError):
    """The export can't be used for training."""

    code = "unusable_export"


@dataclass(frozen=True)
class TrainingLine:
    """An image of a line and its label."""

    file: Path | bytes
    """As it was collected, or rewritten with the pixels that the API reads."""
    text: str
    is_annotated: bool
    """Whether the label is an annotation, not a prediction."""
    name: str
    """SHA-256 of the original bytes."""
    group: str
    """Common to the lines of one source: a hand, a book, a web site; the first of several."""
    licence: str | None
    width: int
    """Pixels, at the height that the default engine reads at."""
    tags: tuple[str, ...] = ()
    """Of a page's line, such as ``heading``."""
    how: str = UNKNOWN_HOW
    """Origin of an annotation."""
    further_groups: tuple[str, ...] = ()
    """Of the same kind, such as those of a copy in another book."""

    @property
    def groups(self) -> tuple[str, ...]:
        """All its groups."""
        return (self.group, *self.further_groups)

    @property
    def content(self) -> bytes:
        """The image's file."""
        return self.file if isinstance(self.file, bytes) else self.file.read_bytes()

    @property
    def pixels(self) -> Pixels:
        """Pixels decoded as by the OCR API, as at inference.

        Raises:
            RefusedError: The API would refuse it.
        """
        return decode(self.content, max_pixels=OcrSettings().max_image_pixels).pixels


@dataclass(frozen=True)
class Export:
    """An export of ``docreco export``."""

    manifest: Manifest
    train: Sequence[TrainingLine]
    validation: Sequence[TrainingLine]
    """Annotated lines that are never trained on."""
    unannotated: int
    """Further lines of the validation split, whose labels are predictions."""
    held_out: frozenset[str] = frozenset()
    """Names of all lines of the splits ``validation`` and ``test``: never rehearsed."""

    @property
    def characters(self) -> set[str]:
        """Characters of the training texts."""
        return set().union(*(line.text for line in self.train))


def read_export(folder: Path) -> Export:
    """Read an export of any layout; without a validation split, some sources are held out.

    Only annotated lines validate: a label that is a prediction would judge models by the errors of
    the one that made it.

    Raises:
        UnreadableManifestError: The folder is not an export.
        UnusableExportError: An image is missing, or there is nothing to learn from.
        RefusedError: The API would refuse an image.
    """
    manifest = read_manifest(folder)
    train, held = (_lines(folder, manifest, split) for split in (TRAIN, VALIDATION))
    if not annotated(train):
        raise UnusableExportError(
            f"{folder} has no annotated images to train on: annotate some (docreco annotate, or "
            "the review page), and export again"
        )
    train, held = (train, held) if held else _held_out(train)
    validation = annotated(held)
    others = {each.sha256 for each in read_records(folder) if each.split != TRAIN}
    return Export(
        manifest,
        train,
        validation,
        unannotated=len(held) - len(validation),
        held_out=frozenset(others | {line.name for line in held}),
    )


def read_held_out(folder: Path) -> tuple[Sequence[TrainingLine], bool]:
    """Return the annotated lines of an export that no model was trained on.

    Those of the split ``test``, and True; where there are none, those that training measured
    itself by, and False.

    Raises:
        UnreadableManifestError: The folder is no export.
        UnusableExportError: An image is missing.
        RefusedError: The API would refuse an image.
    """
    test = annotated(_lines(folder, read_manifest(folder), TEST))
    return (test, True) if test else (read_export(folder).validation, False)


def annotated(lines: Sequence[TrainingLine]) -> list[TrainingLine]:
    """Return the lines whose labels are annotations."""
    return [line for line in lines if line.is_annotated]


def _lines(folder: Path, manifest: Manifest, split: SplitName) -> list[TrainingLine]:
    files = _files(folder, manifest.query.format) if manifest.splits.get(split) else {}
    wanted = [each for each in read_records(folder) if each.split == split] if files else []
    if missing := next((each for each in wanted if each.sha256 not in files), None):
        raise UnusableExportError(f"{folder} has no image {missing.sha256}")
    return [_line(each, files[each.sha256]) for each in wanted]


def _files(folder: Path, layout: Format) -> Mapping[str, Path | bytes]:
    if layout is Format.PARQUET:
        return dict(_rows(folder))
    return {path.stem: path for path in folder.rglob("*.*") if path.is_file() and _is_image(path)}


def _is_image(path: Path) -> bool:
    return path.suffix not in {".txt", ".json", ".jsonl", ".parquet", ".md"}


def _rows(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted((folder / "data").glob("*.parquet")):
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS, columns=["sha256", "image"]):
                for row in batch.to_pylist():
                    yield row["sha256"], row["image"]["bytes"]


def _line(record: ManifestRecord, file: Path | bytes) -> TrainingLine:
    group, *others = _groups(record)
    line = TrainingLine(
        file=file,
        text=record.label,
        is_annotated=record.origin is Origin.ANNOTATION,
        name=record.sha256,
        group=group,
        further_groups=tuple(others),
        how=record.how or UNKNOWN_HOW,
        licence=record.licence,
        width=0,
        tags=(record.page and record.page.tags) or (),
    )
    width, height = measure(line.content, max_pixels=OcrSettings().max_image_pixels)
    return replace(line, width=max(1, width * MODEL_HEIGHT // height))


def _groups(record: ManifestRecord) -> list[str]:
    """Return the groups of a line, of the first kind that is known, at least one."""
    kinds = (record.split_groups, [record.group], record.hosts, [record.collection])
    known = ([each for each in kind if each] for kind in kinds)
    return next(filter(None, known), [record.key.rpartition("/")[0]])


def sources_of(lines: Iterable[TrainingLine]) -> list[str]:
    """Return the source of each line; groups that have a line in common are one."""
    lines, roots = [*lines], dict[str, str]()

    def root(group: str) -> str:
        while (above := roots.setdefault(group, group)) != group:
            group = above
        return group

    for line in lines:
        for each in line.further_groups:
            first, other = sorted((root(line.group), root(each)))
            roots[other] = first
    return [root(line.group) for line in lines]


def _held_out(lines: list[TrainingLine]) -> tuple[list[TrainingLine], list[TrainingLine]]:
    """Split by source, so that validation sources are unseen; a single source by line.

    Where shared lines make too few sources of all groups, it is by each line's first group.
    """
    groups = [line.group for line in lines]
    ways = [sources_of(lines), groups] if len({*groups}) > 1 else [[line.name for line in lines]]
    parts = [_divided(lines, names) for names in ways]
    measuring = [len(annotated(held)) for _, held in parts]
    most = min(max(measuring), math.ceil(HELD_OUT * len(annotated(lines))))
    train, held = next(each for each, n in zip(parts, measuring, strict=True) if n >= most)
    return (train, held) if annotated(train) else (lines, [])


def _divided(
    lines: list[TrainingLine], names: list[str]
) -> tuple[list[TrainingLine], list[TrainingLine]]:
    """Hold out sources, which are given by line.

    In the order of the hashes of their names, sources are held out until these have a tenth of the
    annotated lines, none with which more than half of them would be: few sources leave no choice to
    chance. Sources without annotated lines measure nothing.
    """
    units: dict[str, list[TrainingLine]] = {}
    for name, line in zip(names, lines, strict=True):
        units.setdefault(name, []).append(line)
    goal = HELD_OUT * len(annotated(lines))
    held: set[str] = set()
    measuring = 0
    for name in sorted(units, key=lambda name: sha256(name.encode()).digest()):
        if measuring >= goal:
            break
        own = len(annotated(units[name]))
        if own and measuring + own <= 5 * goal:
            held.add(name)
            measuring += own
    parts = [
        [line for name, own in units.items() if (name in held) is is_held for line in own]
        for is_held in (False, True)
    ]
    return parts[0], parts[1]
