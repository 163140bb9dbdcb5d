"""Convert an archive to a list: an item per image, at the archive's URL and ``#member``."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from services.common.domain.image_formats import begins_as_image
from services.common.domain.tables.columns import ReadingOptions
from services.common.domain.tables.names import is_image
from services.common.domain.tables.table import Report
from services.fetcher.sources.addresses import member_url
from services.fetcher.sources.archives.formats import OpenArchive
from services.fetcher.sources.archives.ground_truth import GroundTruth, is_companion, may_annotate
from services.fetcher.sources.archives.members import (
    ArchiveLimits,
    ArchiveRefusedError,
    Entry,
    checked,
    refusal,
)
from services.fetcher.sources.lists.rows import Row, check_annotation, reject

_BEGINNING_BYTES = 32


def archive_rows(
    archive: OpenArchive,
    url: str,
    limits: ArchiveLimits,
    report: Report | None = None,
    options: ReadingOptions | None = None,
) -> Iterator[Row]:
    """Yield an item or a rejection for each member; indexes count as lines, from 1.

    Args:
        archive: Open.
        url: Of the archive.
        limits: Of its members.
        report: About its texts; complete after the last row.
        options: Format of its tables and texts, given by the sender.

    Raises:
        ArchiveRefusedError: The archive as a whole is refused.
    """
    entries = [
        (place, entry, refusal(place, entry, limits))
        for place, entry in checked(archive.entries(), limits)
    ]
    taken = [entry.name for _, entry, refused in entries if refused is None]
    images = [name for name in taken if not _is_left_over(name) and _may_be_image(archive, name)]
    truth = GroundTruth(
        archive,
        [name for name in taken if may_annotate(name)],
        images,
        report or Report(),
        options or ReadingOptions(),
    )
    known = set(images)
    seen: set[str] = set()
    for place, entry, problem in entries:
        if _is_silent(entry):
            continue
        refused = problem
        if refused is None and entry.name in seen:
            refused = reject(place, entry.name, "duplicate_member", "duplicate path")
        elif refused is None and entry.name not in known:
            detail = "neither its suffix nor its content is an image's"
            refused = reject(place, entry.name, "not_an_image", detail)
        seen.add(entry.name)
        if refused is None:
            text, details = truth.of(entry.name)
            yield check_annotation(place, member_url(url, entry.name), text, details)
        else:
            yield refused


def _may_be_image(archive: OpenArchive, name: str) -> bool:
    """Return whether a member may be an image, by its name or first bytes."""
    if is_image(name):
        return True
    if may_annotate(name) or is_companion(name):
        return False
    try:
        return begins_as_image(archive.read(name, max_bytes=_BEGINNING_BYTES))
    except ArchiveRefusedError:  # corrupt, and probably not an image
        return False


def _is_left_over(name: str) -> bool:
    """Return whether a member is a leftover of macOS or others."""
    return any(
        part.startswith(("._", "__MACOSX", ".DS_Store")) for part in PurePosixPath(name).parts
    )


def _is_silent(entry: Entry) -> bool:
    """Return whether a member is silently ignored.

    That is: folders, leftovers, annotations (which have their own report), and descriptions of data
    sets.
    """
    is_annotation = may_annotate(entry.name) and entry.is_file and entry.is_readable
    is_quiet = is_annotation or is_companion(entry.name)
    return entry.is_folder or _is_left_over(entry.name) or is_quiet
