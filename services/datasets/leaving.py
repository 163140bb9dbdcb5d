"""What an export no longer has that the one before in the same folder had."""

from pathlib import Path

from services.common.index import Collection
from services.datasets.manifest import FILE, Record, SinceLast, pages, read_manifest, read_records
from services.datasets.plan import PAGE, Plan


async def since_last(out: Path, plan: Plan, images: Collection, bucket: str) -> SinceLast | None:
    """Compare a plan that was carried out with the export in ``out``; None without one.

    Raises:
        UnreadableManifestError: What is there is damaged.
        IndexUnavailableError: MongoDB does not answer.
    """
    if not (out / FILE).exists():
        return None
    left_out = 0
    removed: list[str] = []
    missing = (record for record in read_records(out) if not plan.has(record.sha256))
    for page in pages(missing, PAGE):
        gone = await _removed(page, images, bucket)
        removed.extend(gone)
        left_out += len(page) - len(gone)
    return SinceLast(
        created_at=read_manifest(out).created_at, left_out=left_out, removed=sorted(removed)
    )


async def _removed(records: list[Record], images: Collection, bucket: str) -> list[str]:
    """Return which of the images are nowhere any more, under whatever key."""
    hashes = {record.sha256: record.key for record in records}
    ids = [f"{bucket}/{key}" for key in hashes.values()]
    found = images.find({"_id": {"$in": ids}, "status": {"$ne": "removed"}}, fields={"sha256": 1})
    there = {document.get("sha256") async for document in found}
    return [sha256 for sha256 in hashes if sha256 not in there]
