"""Convert the images of a Parquet file to an archive, for the workers."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO

from services.common.domain.packing import END, tar_member
from services.common.domain.sizes import MAX_IMAGE_BYTES
from services.fetcher.sources.addresses import member_url
from services.fetcher.sources.archives.members import ArchiveLimits, check_size, is_safe, too_many
from services.fetcher.sources.errors import reject
from services.fetcher.sources.lists.parquet_images import ImageRow
from services.fetcher.sources.lists.rows import ListItem, Row
from services.fetcher.sources.spool import Spool

_WHY = {
    "no_image_bytes": "the row holds no image",
    "too_large": f"the image has more than {MAX_IMAGE_BYTES} bytes",
    "invalid_annotation": "its text is too long, or is not text",
}


def pack_images(
    rows: Iterator[ImageRow],
    archive: IO[bytes],
    spool: Spool,
    limits: ArchiveLimits,
    described: tuple[str, int],
) -> Iterator[Row]:
    """Yield an item or a rejection for each row, whose image is written to a tar.

    Args:
        rows: Of the Parquet file.
        archive: Complete after the last row.
        spool: Of the archive.
        limits: Of the archive.
        described: The address at which it will be read, and the bytes of the Parquet file.

    Raises:
        ArchiveRefusedError: There are too many images, or they are too large together.
        NoSpaceError: The spool is full.
    """
    taken: set[str] = set()
    (address, packed_bytes), size = described, 0
    for row in rows:
        if row.code:
            yield reject(row.line, row.name, row.code, _WHY.get(row.code, "it is not taken"))
            continue
        if len(taken) >= limits.members:
            raise too_many(limits)
        name = _member_name(row, taken)
        taken.add(name)
        piece = tar_member(name, row.content)
        size += len(piece)
        check_size(size, packed_bytes, limits)
        spool.write(archive, piece)
        yield ListItem(row.line, member_url(address, name), row.annotation, row.details)
    spool.write(archive, END)
    spool.flush(archive)


def _member_name(row: ImageRow, taken: set[str]) -> str:
    """Return the row's name, or one by its number if that is not a unique path."""
    if row.name not in taken and is_safe(row.name):
        return row.name
    return f"row {row.line}{PurePosixPath(row.name).suffix[:5] if is_safe(row.name) else ''}"
