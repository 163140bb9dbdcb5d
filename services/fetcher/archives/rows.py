"""An archive as a list: an item for each image, at the archive's URL and ``#member``."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from services.common.domain.tables.names import is_image
from services.common.domain.tables.table import Report
from services.fetcher.archives.addresses import member_url
from services.fetcher.archives.formats import OpenArchive
from services.fetcher.archives.ground_truth import GroundTruth, is_companion, may_annotate
from services.fetcher.archives.members import ArchiveLimits, Entry, checked, refusal
from services.fetcher.lists.rows import Row, check_annotation, reject


def archive_rows(
    archive: OpenArchive, url: str, limits: ArchiveLimits, report: Report | None = None
) -> Iterator[Row]:
    """Yield an item or a rejection for each member; places count as lines, from 1.

    Args:
        archive: Open.
        url: Of the archive.
        limits: Of its members.
        report: Told what became of its texts; complete when all rows are read.

    Raises:
        ArchiveRefusedError: The archive as a whole is not taken.
    """
    entries = [
        (place, entry, refusal(place, entry, limits))
        for place, entry in checked(archive.entries(), limits)
    ]
    taken = [entry.name for _, entry, refused in entries if refused is None]
    truth = GroundTruth(
        archive,
        [name for name in taken if may_annotate(name)],
        [name for name in taken if is_image(name) and not _is_left_over(name)],
        report or Report(),
    )
    seen: set[str] = set()
    for place, entry, problem in entries:
        if _is_silent(entry):
            continue
        refused = problem
        if refused is None and entry.name in seen:
            refused = reject(place, entry.name, "duplicate_member", "another has the same path")
        elif refused is None and not is_image(entry.name):
            detail = "its name does not end as an image's does"
            refused = reject(place, entry.name, "not_an_image", detail)
        seen.add(entry.name)
        yield refused or check_annotation(place, member_url(url, entry.name), truth.of(entry.name))


def _is_left_over(name: str) -> bool:
    """Return whether macOS and others left a member behind."""
    return any(
        part.startswith(("._", "__MACOSX", ".DS_Store")) for part in PurePosixPath(name).parts
    )


def _is_silent(entry: Entry) -> bool:
    """Return whether nobody misses a member.

    That is: folders, what is left over, annotations, and what describes a data set.

    What became of annotations is in the report.
    """
    is_annotation = may_annotate(entry.name) and entry.is_file and entry.is_readable
    is_quiet = is_annotation or is_companion(entry.name)
    return entry.is_folder or _is_left_over(entry.name) or is_quiet
