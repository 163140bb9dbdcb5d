"""Export a data set: plan, read images, write the layout, describe, move into place."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.object_store import ObjectStore
from services.common.domain.errors import ObjectNotFoundError
from services.common.domain.ground_truth.writing import to_alto, to_page
from services.common.domain.normal_form import (
    TRAINABLE,
    Difference,
    NoImageError,
    TooManyPixelsError,
    to_normal_file,
)
from services.common.domain.objects import ObjectTooLargeError
from services.common.domain.pieces import in_pieces
from services.datasets.card import data_card
from services.datasets.export_diff import compare_to_last
from services.datasets.folder import Folder, replacing
from services.datasets.formats.files import DocTr, ImageFolder, Kraken, PaddleOcr, TrOcr
from services.datasets.formats.pages import PageFiles, PageKey
from services.datasets.formats.writing import Writer
from services.datasets.manifest import (
    FILE,
    RECORDS_FILE,
    ExportQuery,
    Format,
    Manifest,
    ManifestRecord,
    read_manifest,
    read_records,
)
from services.datasets.objects import Loss, read_ahead
from services.datasets.plan import EXPORTED, PAGE, ExportPlan
from services.datasets.selection import select

_FILE_WRITERS: dict[Format, Callable[[Folder], Writer]] = {
    Format.HF: ImageFolder,
    Format.TROCR: TrOcr,
    Format.PADDLEOCR: PaddleOcr,
    Format.DOCTR: DocTr,
    Format.KRAKEN: Kraken,
}


MAX_PAGE_BYTES = 200 * 1024 * 1024

Progress = Callable[[int, int], None]
"""Called with the number of finished and of all images."""


@dataclass(frozen=True)
class ExportSources:
    """Sources of an export."""

    images: ImageRepository
    store: ObjectStore
    pages: ObjectStore
    """Images of whole pages."""


async def export(
    query: ExportQuery, sources: ExportSources, out: Path, progress: Progress
) -> Manifest:
    """Write the result of a query into a folder, atomically.

    Raises:
        FolderInUseError: The folder holds something else, or another export is writing it.
        OSError: The disk is full.
    """
    with replacing(out) as staging, ExportPlan.open(staging / ".plan") as plan:
        excluded = await select(sources.images, query, plan)
        # whole seconds, as MongoDB and JSON differ in milliseconds
        now = datetime.now(tz=UTC).replace(microsecond=0)
        begun = Manifest(
            created_at=now, query=query, images=0, splits={}, excluded=excluded, lost={}
        )
        with Folder(staging) as folder:
            missing = await _write(plan, sources, begun, folder, progress)
            left = await compare_to_last(out, plan, sources.images, query.bucket)
            noted = {"since_last": left, "page_images_missing": missing}
            return _describe(folder, plan, begun.model_copy(update=noted))


async def export_again(
    manifest_file: Path,
    layout: Format | None,
    sources: ExportSources,
    out: Path,
    progress: Progress,
) -> Manifest:
    """Reproduce the export of a manifest, byte for byte if all images still exist.

    Raises:
        UnreadableManifestError: The manifest is invalid.
        FolderInUseError: As for ``export``; also UnavailableError and OSError.
    """
    begun = read_manifest(manifest_file.parent)
    if layout is not None:
        query = begun.query.model_copy(update={"format": layout})
        begun = begun.model_copy(update={"query": query})
    with replacing(out) as staging, ExportPlan.open(staging / ".plan") as plan:
        for page in in_pieces(read_records(manifest_file.parent), PAGE):
            plan.add(each for each in page if each.page or not begun.query.format.is_of_pages)
        with Folder(staging) as folder:
            missing = await _write(plan, sources, begun, folder, progress)
            noted = {"page_images_missing": missing}
            return _describe(folder, plan, begun.model_copy(update=noted))


def _open_writer(layout: Format, folder: Folder, at: datetime) -> Writer:
    if layout.is_of_pages:
        return PageFiles(folder, to_alto if layout is Format.ALTO else partial(to_page, at=at))
    if layout is Format.PARQUET:
        # Imported here, as its library is slow to load
        from services.datasets.formats.parquet import Parquet  # noqa: PLC0415

        return Parquet(folder)
    return _FILE_WRITERS[layout](folder)


async def _write(
    plan: ExportPlan, sources: ExportSources, begun: Manifest, folder: Folder, progress: Progress
) -> int:
    """Write the files of a layout; return how many pages lack their image."""
    writer = _open_writer(begun.query.format, folder, begun.created_at)
    await _write_images(plan, sources.store, writer, progress)
    missing = 0
    if isinstance(writer, PageFiles):
        for page in writer.pages():
            missing += not await _write_page(writer, page, sources.pages)
    writer.finish()
    return missing


async def _write_page(writer: PageFiles, page: PageKey, store: ObjectStore) -> bool:
    """Write the image of a page, upright; return False if it is missing or has other bytes now."""
    bucket, _, key = page.id.partition("/")
    if bucket != store.bucket:  # of metadata, which anybody may have written
        return False
    try:
        content = (await store.read(key, max_bytes=MAX_PAGE_BYTES)).content
        if page.sha256 not in {"", hashlib.sha256(content).hexdigest()}:
            return False
        file = await asyncio.to_thread(to_normal_file, content, readable=TRAINABLE)
    except (ObjectNotFoundError, ObjectTooLargeError, NoImageError, TooManyPixelsError):
        return False
    await asyncio.to_thread(writer.add_image, page, file.content, file.format.extension)
    return True


async def _write_images(
    plan: ExportPlan, store: ObjectStore, writer: Writer, progress: Progress
) -> None:
    total = plan.count()
    progress(0, total)
    done = 0
    async for group in read_ahead(store, plan.records()):
        results = await asyncio.to_thread(_add_all, writer, group)
        states = {sha256: state for sha256, (state, _) in results.items()}
        reasons = {sha256: reason for sha256, (_, reason) in results.items() if reason}
        plan.mark(states, reasons)
        done += len(group)
        progress(done, total)


def _add_all(
    writer: Writer, group: Sequence[tuple[ManifestRecord, bytes | Loss]]
) -> dict[str, tuple[str, Difference | None]]:
    """Write images; return state and reason of rewriting of each record by hash."""
    return {record.sha256: _add(writer, record, content) for record, content in group}


def _add(
    writer: Writer, record: ManifestRecord, content: bytes | Loss
) -> tuple[str, Difference | None]:
    if isinstance(content, Loss):
        return content, None
    try:
        file = to_normal_file(content, readable=TRAINABLE)
    except NoImageError:
        return Loss.NO_IMAGE, None
    except TooManyPixelsError:
        return Loss.TOO_LARGE, None
    writer.add(record, file.content, file.format.extension)
    return EXPORTED, file.rewritten


def _describe(folder: Folder, plan: ExportPlan, begun: Manifest) -> Manifest:
    """Write manifest and data card."""
    splits = plan.counts("split")
    lost = plan.states()
    groups, leaking = plan.groups()
    counted = {
        "images": sum(splits.values()),
        "splits": splits,
        "lost": lost,
        "rewritten": plan.counts("rewritten"),
        "groups": groups,
        "groups_in_several_splits": leaking,
    }
    manifest = Manifest.model_validate({**begun.model_dump(), **counted})
    folder.append(RECORDS_FILE, "")
    for record in plan.records(EXPORTED):
        folder.append(RECORDS_FILE, record.model_dump_json() + "\n")
    folder.write("README.md", data_card(manifest, plan).encode())
    folder.write(FILE, (manifest.model_dump_json(indent=2) + "\n").encode())
    return manifest
