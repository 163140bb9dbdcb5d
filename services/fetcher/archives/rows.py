"""An archive as a list: an item for each image, at the archive's URL and ``#member``."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from services.fetcher.archives.addresses import member_url
from services.fetcher.archives.formats import OpenArchive
from services.fetcher.archives.ground_truth import IMAGE_SUFFIXES, GroundTruth, may_annotate
from services.fetcher.archives.members import ArchiveLimits, Entry, checked, refusal
from services.fetcher.lists.rows import Row, check_annotation, reject


def archive_rows(archive: OpenArchive, url: str, limits: ArchiveLimits) -> Iterator[Row]:
    """Yield an item or a rejection for each member; places count as lines, from 1.

    Raises:
        ArchiveRefusedError: The archive as a whole is not taken.
    """
    entries = list(checked(archive.entries(), limits))
    truth = GroundTruth(
        archive,
        [
            entry.name
            for place, entry in entries
            if may_annotate(entry.name) and refusal(place, entry, limits) is None
        ],
    )
    seen: set[str] = set()
    for place, entry in entries:
        if _is_silent(entry):
            continue
        refused = refusal(place, entry, limits)
        if refused is None and entry.name in seen:
            refused = reject(place, entry.name, "duplicate_member", "another has the same path")
        elif refused is None and not _is_image(entry.name):
            detail = "its name does not end as an image's does"
            refused = reject(place, entry.name, "not_an_image", detail)
        seen.add(entry.name)
        yield refused or check_annotation(place, member_url(url, entry.name), truth.of(entry.name))


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _is_silent(entry: Entry) -> bool:
    """Return whether nobody misses a member: folders, annotations, what macOS and others leave."""
    parts = PurePosixPath(entry.name).parts
    is_left_over = any(part.startswith(("._", "__MACOSX", ".DS_Store")) for part in parts)
    is_annotation = may_annotate(entry.name) and entry.is_file and entry.is_readable
    return entry.is_folder or is_left_over or is_annotation
