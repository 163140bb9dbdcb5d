"""Pages of an archive: images with lines described by PAGE XML or ALTO."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import PurePosixPath

from pydantic import JsonValue

from services.common.domain.details import Details
from services.common.domain.ground_truth.elements import MAX_BYTES, GroundTruthError
from services.common.domain.ground_truth.reading import placed, read_transcript
from services.common.domain.ground_truth.transcript import TextLine, Transcript
from services.common.domain.image_formats import open_image
from services.common.domain.normal_form import is_sideways, is_turned
from services.common.domain.tables.names import ImageNames
from services.common.domain.tables.report import Note, Report
from services.fetcher.sources.addresses import LineAddress, line_url, member_url
from services.fetcher.sources.archives.ground_truth import ArchiveGroundTruth
from services.fetcher.sources.archives.members import Archive, ArchiveRefusedError
from services.fetcher.sources.errors import reject
from services.fetcher.sources.lists.rows import Row, check_annotation

MAX_PAGE_BYTES = 100 * 1024 * 1024
SUFFIX = ".xml"
_LOST = frozenset({"line_without_polygon", "line_too_small"})
"""Problems of lines without image."""


class TranscribedPages:
    """Pages of an archive and their lines."""

    def __init__(
        self,
        archive: Archive,
        names: Iterable[str],
        images: Iterable[str],
        report: Report,
        *,
        takes_others: bool = False,
    ) -> None:
        self._archive = archive
        self._report = report
        self._images = ImageNames(images := list(images))
        self._transcripts: dict[str, str] = {}
        """By the page's image."""
        self._takes_others = takes_others
        self._refused: dict[str, tuple[str, str]] = {}
        """Code and reason, by the image."""
        kinds: dict[str, str] = {}
        for name in names:
            self._match(name, kinds)
        self._folders = {str(PurePosixPath(each).parent) for each in kinds}
        for image in () if takes_others else images:
            if image not in kinds and str(PurePosixPath(image).parent) in self._folders:
                detail = "other pages of its folder have a transcription, and this one has none"
                self._refused[image] = ("transcript_missing", detail)

    @property
    def are_all(self) -> bool:
        """Whether the archive is one of transcribed pages, so that no other image is a line."""
        return bool(self._transcripts) and not self._takes_others

    def has(self, image: str) -> bool:
        """Return whether an image is a page, which is split into lines."""
        return image in self._transcripts or image in self._refused

    def rows(self, place: int, url: str, image: str, truth: ArchiveGroundTruth) -> Iterator[Row]:
        """Yield an item or a rejection for each line of a page.

        Args:
            place: Of the first row; each has the next one.
            url: Of the archive.
            image: A page.
            truth: What tables say of the page, and exports of its lines.
        """
        said = replace(truth.details_of(image), how=None)  # of the page, not of its lines
        try:
            name, transcript, digest, page_sha256 = self._read(image)
        except GroundTruthError as error:
            yield reject(place, image, error.code, error.detail)
            return
        lost = [each for each in transcript.problems if each.code in _LOST]
        for problem in transcript.problems:
            if problem.code not in _LOST:
                self._note(name, problem.code, f"{problem.line}: {problem.detail}".strip(": "))
        for number, line in enumerate(transcript.lines, start=place):
            address = line_url(member_url(url, image), LineAddress(name, line.id, digest))
            details = said.completed_by(self._details(image, line))
            checked = truth.of_line(image, page_sha256, line.id, line.text, details)
            yield check_annotation(number, address, *checked)
        for number, problem in enumerate(lost, start=place + len(transcript.lines)):
            yield reject(number, f"{image}#{problem.line}", problem.code, problem.detail)
        if not transcript.lines and not lost:
            yield reject(place, image, "page_without_lines", f"{name} describes no line")

    def _details(self, image: str, line: TextLine) -> Details:
        """Return the details of a line.

        Its group is the page's folder if pages are in several folders, like documents; otherwise
        the page.
        """
        folder = str(PurePosixPath(image).parent)
        group = folder if len(self._folders) > 1 else image
        metadata: dict[str, JsonValue] = {"page": image, "line": line.id}
        if line.tags:
            metadata["tags"] = list(line.tags)
        return Details(group, metadata=metadata)

    def _read(self, image: str) -> tuple[str, Transcript, str, str]:
        """Return the transcription of a page with its name, the digest of both, and the hash."""
        if image in self._refused:
            raise GroundTruthError(*self._refused[image])
        name = self._transcripts[image]
        content, page = self._member(name, MAX_BYTES), self._member(image, MAX_PAGE_BYTES)
        transcript = placed(read_transcript(content), *page_size(page))
        return name, transcript, page_digest(content, page), hashlib.sha256(page).hexdigest()

    def _member(self, name: str, max_bytes: int) -> bytes:
        try:
            return self._archive.read(name, max_bytes=max_bytes)
        except ArchiveRefusedError as error:
            raise GroundTruthError("unreadable_member", f"{name}: {error}"[:300]) from error

    def _match(self, name: str, kinds: dict[str, str]) -> None:
        """Find the image of a transcription; PAGE XML takes precedence over ALTO."""
        try:
            transcript = read_transcript(self._member(name, MAX_BYTES))
        except GroundTruthError as error:
            if (image := self._beside(name)) and error.code != "no_ground_truth":
                self._refused[image] = (error.code, f"{name}: {error.detail}")
                kinds[image] = ""
            else:
                self._note(name, error.code, error.detail)
            return
        image = self._image_of(name, transcript)
        if image is None:
            return
        if kinds.get(image) == transcript.kind:
            self._refused[image] = ("several_transcripts", f"{name} is not the only one")
        elif kinds.get(image) == "page":
            self._note(name, "several_transcripts", f"{self._transcripts[image]} is taken")
        else:
            kinds[image], self._transcripts[image] = transcript.kind, name

    def _image_of(self, name: str, transcript: Transcript) -> str | None:
        """Return the image named in a transcription, otherwise the one with its name."""
        beside = self._beside(name)
        named = self._find(name, transcript.image)
        if named and beside and named != beside:
            detail = f"it names {named!r}, and {beside!r} is named like it"
            self._note(name, "page_image_ambiguous", detail)
            return None
        if named is None and beside is None:
            detail = f"it names {transcript.image!r}, and no image is named like it either"
            self._note(name, "page_image_missing", detail)
        elif named is None and transcript.image:
            self._note(name, "image_name_differs", f"it names {transcript.image!r}")
        return named or beside

    def _beside(self, name: str) -> str | None:
        """Return the image that has the name of a transcription."""
        return self._find(name, PurePosixPath(name).stem)

    def _find(self, name: str, image: str) -> str | None:
        """Return the image of a name in a transcription's folder, or in the one above."""
        path = PurePosixPath(name)
        folders = (str(path.parent), str(path.parent.parent))
        found = (self._images.find(image, folder) for folder in folders)
        return next((each for each in found if each), None)

    def _note(self, name: str, code: str, detail: str) -> None:
        self._report.note(Note(0, code, detail[:300], name))


def page_digest(transcript: bytes, image: bytes) -> str:
    """Return the digest of a page and its transcription: 32 hex digits."""
    both = (hashlib.sha256(each).digest() for each in (transcript, image))
    return hashlib.sha256(b"".join(both)).hexdigest()[:32]


def page_size(content: bytes) -> tuple[int, int]:
    """Return width and height of a page, upright.

    Raises:
        GroundTruthError: It is not an image, too large, or its EXIF orientation makes coordinates
            ambiguous.
    """
    if len(content) > MAX_PAGE_BYTES:
        raise GroundTruthError("too_large", f"a page has more than {MAX_PAGE_BYTES} bytes")
    try:
        with open_image(content) as image:
            size, sideways, turned = image.size, is_sideways(image), is_turned(image)
            is_swapped = sideways and image.format != "TIFF"  # of which Pillow says it upright
    except Exception as error:  # Pillow raises almost anything on a hostile header
        raise GroundTruthError("not_an_image", f"it is not an image: {error}"[:300]) from error
    if turned and not sideways:
        detail = "its EXIF turns it: save it upright, as its transcription is"
        raise GroundTruthError("page_turned", detail)
    return size[::-1] if is_swapped else size
