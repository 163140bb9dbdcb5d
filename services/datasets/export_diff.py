"""Difference of an export to the previous one in the same folder."""

from pathlib import Path

from services.common.adapters.image_repository import ImageRepository
from services.common.domain.image import ImageDocument
from services.common.domain.pieces import in_pieces
from services.datasets.copies import find_copies
from services.datasets.manifest import (
    FILE,
    ManifestRecord,
    SinceLast,
    read_manifest,
    read_records,
)
from services.datasets.objects import Loss
from services.datasets.plan import EXPORTED, PAGE, ExportPlan


async def compare_to_last(
    out: Path, plan: ExportPlan, images: ImageRepository, bucket: str
) -> SinceLast | None:
    """Compare a finished plan with the export in ``out``; None without one.

    Raises:
        UnreadableManifestError: That export is corrupt.
    """
    if not (out / FILE).exists():
        return None
    left_out = 0
    removed: list[str] = []
    missing = (record for record in read_records(out) if plan.state(record.sha256) != EXPORTED)
    for page in in_pieces(missing, PAGE):
        gone = await _removed(page, plan, images, bucket)
        removed.extend(gone)
        left_out += len(page) - len(gone)
    return SinceLast(
        created_at=read_manifest(out).created_at, left_out=left_out, removed=sorted(removed)
    )


async def _removed(
    records: list[ManifestRecord], plan: ExportPlan, images: ImageRepository, bucket: str
) -> list[str]:
    """Return the images that do not exist under any key."""
    known = await find_copies(images, bucket, (record.sha256 for record in records))
    return [
        each.sha256
        for each in records
        if _is_gone(plan.state(each.sha256), known.get(each.sha256, []))
    ]


def _is_gone(state: str | None, copies: list[ImageDocument]) -> bool:
    """Whether no object with these bytes exists, even if a document is not updated yet."""
    was_missing = state in {Loss.REMOVED, Loss.CHANGED} and len(copies) == 1
    return not copies or was_missing
