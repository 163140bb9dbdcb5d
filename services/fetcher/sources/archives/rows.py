"""Convert an archive to a list: an item per image, at the archive's URL and ``#member``."""

import re
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import PurePosixPath

from services.common.domain.details import to_name
from services.common.domain.image_formats import PDF_REFUSED, begins_as_image, is_pdf
from services.common.domain.tables.list_format import ReadingOptions
from services.common.domain.tables.names import is_image
from services.common.domain.tables.report import Report
from services.fetcher.sources.addresses import member_url
from services.fetcher.sources.archives.formats import OpenArchive
from services.fetcher.sources.archives.ground_truth import (
    ArchiveGroundTruth,
    is_companion,
    may_annotate,
)
from services.fetcher.sources.archives.members import (
    ArchiveLimits,
    ArchiveRefusedError,
    Entry,
    checked,
    refusal,
)
from services.fetcher.sources.archives.pages import SUFFIX, TranscribedPages
from services.fetcher.sources.errors import Rejection, reject
from services.fetcher.sources.lists.rows import Row, check_annotation

_BEGINNING_BYTES = 1024
_PDF_SUFFIX = ".pdf"
_CATALOGUES = frozenset({"htr-united.yml", "htr-united.yaml"})
_CATALOGUE_BYTES = 256 * 1024
_NO_TRANSCRIPT = "other images of it have a transcription, and this one has neither that nor a text"
_DATA_SET = re.compile(
    r"^(title|url):[ \t]*['\"]?([^'\"\n#|>][^\"\n]{0,300}?)['\"]?[ \t]*$", re.MULTILINE
)
_LICENCE = re.compile(
    r"^[ \t]*licen[cs]e:\s*(?:[-\[{]\s*)*(?:name:[ \t]*)?['\"]?([^'\"\n\[\]{},#]{1,300})",
    re.MULTILINE,
)


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
    report, options = report or Report(), options or ReadingOptions()
    transcripts = [name for name in taken if _is_transcript(name)]
    pages = TranscribedPages(archive, transcripts, images, report, takes_others=options.pages)
    if options.pages:
        images += [name for name in taken if _is_document(archive, name)]
    texts = [name for name in taken if may_annotate(name)]
    truth = ArchiveGroundTruth(archive, texts, images, report, options)
    report.licence, report.data_set = _catalogued(_catalogue(archive, taken))
    yield from _rows(entries, url, set(images), pages, truth)


def _rows(
    entries: Iterable[tuple[int, Entry, Rejection | None]],
    url: str,
    images: AbstractSet[str],
    pages: TranscribedPages,
    truth: ArchiveGroundTruth,
) -> Iterator[Row]:
    """Yield the rows of members, which are given with their index and why they are refused."""
    seen = set[str]()
    more = 0
    """Rows beside one for each member so far: of the lines of pages."""
    for at, entry, problem in entries:
        if _is_silent(entry):
            continue
        place, name = at + more, entry.name
        refused = problem or _refused(place, name, images, seen)
        seen.add(name)
        if refused is not None:
            yield replace(refused, line=place)
            continue
        if pages.has(name):
            for number, row in enumerate(pages.rows(place, url, name, truth)):
                more += number > 0
                yield row
        elif pages.are_all and not truth.knows(name):
            yield reject(place, name, "transcript_missing", _NO_TRANSCRIPT)
        else:
            yield check_annotation(place, member_url(url, name), *truth.of(name))


def _catalogue(archive: OpenArchive, names: Iterable[str]) -> str:
    """Return the catalogue of HTR-United that is nearest to the top; empty without one.

    See https://htr-united.github.io/schema.
    """
    found = [name for name in names if PurePosixPath(name).name.lower() in _CATALOGUES]
    for name in sorted(found, key=lambda each: each.count("/"))[:1]:
        try:
            return archive.read(name, max_bytes=_CATALOGUE_BYTES).decode(errors="replace")
        except ArchiveRefusedError:
            break
    return ""


def _catalogued(catalogue: str) -> tuple[str | None, dict[str, str]]:
    """Return the licence in a catalogue, and its title and address as metadata.

    ``license`` is a list of names with addresses.
    """
    licence = _LICENCE.search(catalogue)
    found = {name: to_name(value) for name, value in _DATA_SET.findall(catalogue)}
    known = {"data_set": found.get("title"), "data_set_url": found.get("url")}
    data_set = {name: value for name, value in known.items() if value}
    return to_name(licence[1]) if licence else None, data_set


def _refused(
    place: int, name: str, images: AbstractSet[str], seen: AbstractSet[str]
) -> Rejection | None:
    """Say why a member that can be read is not taken, or return None."""
    if name in seen:
        return reject(place, name, "duplicate_member", "duplicate path")
    if name not in images:
        detail = "neither its suffix nor its content is an image's"
        is_document = name.lower().endswith(_PDF_SUFFIX)
        return reject(place, name, "not_an_image", PDF_REFUSED if is_document else detail)
    return None


def _may_be_image(archive: OpenArchive, name: str) -> bool:
    """Return whether a member may be an image, by its name or first bytes."""
    if is_image(name):
        return True
    if may_annotate(name) or is_companion(name) or _is_transcript(name):
        return False
    return begins_as_image(_beginning(archive, name))


def _is_document(archive: OpenArchive, name: str) -> bool:
    """Return whether a member is a PDF, by its name and first bytes."""
    is_named = name.lower().endswith(_PDF_SUFFIX) and not _is_left_over(name)
    return is_named and is_pdf(_beginning(archive, name))


def _beginning(archive: OpenArchive, name: str) -> bytes:
    try:
        return archive.read(name, max_bytes=_BEGINNING_BYTES)
    except ArchiveRefusedError:  # corrupt, and probably not an image
        return b""


def _is_transcript(name: str) -> bool:
    return name.lower().endswith(SUFFIX) and not _is_left_over(name)


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
    says_more = may_annotate(entry.name) or _is_transcript(entry.name)
    is_quiet = (says_more and entry.is_file and entry.is_readable) or is_companion(entry.name)
    return entry.is_folder or _is_left_over(entry.name) or is_quiet
