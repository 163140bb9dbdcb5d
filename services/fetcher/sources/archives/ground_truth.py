"""Ground truth of an archive: tables, a text file beside each image, IAM's lines.txt."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import PurePosixPath

from services.common.domain.annotations import collapse
from services.common.domain.details import NO_DETAILS, Details, is_text
from services.common.domain.tables.lines import detect_encoding, open_lines
from services.common.domain.tables.list_format import ReadingOptions
from services.common.domain.tables.names import ImageNames, canonical, without_suffix
from services.common.domain.tables.records import Damaged
from services.common.domain.tables.report import MAX_TABLES, Note, Report, TableRow
from services.fetcher.sources.archives.export_records import (
    add_details,
    line_of,
    records_of_exports,
)
from services.fetcher.sources.archives.members import Archive, ArchiveRefusedError
from services.fetcher.sources.archives.truth_tables import JSON_LINES, rows_of, sample_of

MAX_TABLE_BYTES = 32 * 1024 * 1024
"""Limit of a table, which is read as a whole."""
MAX_TEXT_BYTES = 64 * 1024
MAX_TRUTH_BYTES = 64 * 1024 * 1024
"""Limit of all tables and texts of an archive together."""

_TABLES = frozenset({".csv", ".tsv", ".tab", ".json"}) | JSON_LINES
_TYPED_LABELS = "metadata.parquet"
"""Of Hugging Face's imagefolder; any other Parquet file is a list."""
_SHARE = re.compile(r"[01]?\.\d+|[01]")
"""A coordinate as a share of the image's width or height."""
_FORMS = (".nrm", ".bin", ".dew", ".raw", ".orig", ".gray", ".color", ".despeckled")
"""Second suffixes of the processed forms of one line."""
_NO_TRUTH = re.compile(r"readme|licen[cs]e|copying|notice|changelog|authors", re.IGNORECASE)
_COMPANION = re.compile(
    r"(readme|licen[cs]e|copying|notice|changelog|authors)(\.(md|rst|txt))?"
    r"|(sha\d+|md5)sums?(\.txt)?|dict\.txt|manifest\.json|htr-united\.ya?ml|citation\.cff",
    re.IGNORECASE,
)


def is_companion(name: str) -> bool:
    """Return whether a file of this name describes a data set, not an image."""
    return _COMPANION.fullmatch(PurePosixPath(name).name) is not None


def may_annotate(name: str) -> bool:
    """Return whether a member may hold annotations."""
    path = PurePosixPath(name)
    return path.name == _TYPED_LABELS or path.suffix.lower() in _TABLES | {".txt"}


class ArchiveGroundTruth:
    """Annotations by the images' paths.

    Args:
        archive: Open.
        names: Of its members that ``may_annotate``.
        images: Of its members that are images.
        report: About the texts; complete after all images.
        options: Format of its tables and texts, given by the sender.

    Raises:
        ArchiveRefusedError: A table is too large, or all together are.
    """

    def __init__(
        self,
        archive: Archive,
        names: Iterable[str],
        images: Iterable[str],
        report: Report,
        options: ReadingOptions,
    ) -> None:
        self._archive = archive
        self._options = options
        self._report = report
        self._bytes_left = MAX_TRUTH_BYTES
        names, images = list(names), list(images)
        self._images = ImageNames(images)
        self._beside = dict(_beside(names, images))
        self._texts: dict[str, str | None] = {}
        """Of tables; None if they conflict."""
        self._details: dict[str, Details] = {}
        self._labels: dict[str, str] = {}
        """Of exports, as they were written."""
        self.used = set(self._beside.values())
        """Parsed members, and those known to repeat them."""
        for name in records_of_exports(names):
            self.used.add(name)
            problem = add_details(archive, name, images, self._details, self._labels)
            if problem:
                self._note(name, 0, "no_ground_truth", problem)
        for name in names:
            if name in self.used:
                continue
            if name.lower().endswith(".gt.txt"):
                self._report.texts_without_image += 1
                self._note(name, 0, "no_such_image", "no image beside it")
            else:
                self._add_table(name)

    def of(self, name: str) -> tuple[str | None, Details]:
        """Return the annotation of an image, or None, and its metadata.

        The prediction of an export is no annotation, unless it was edited since.

        Raises:
            ArchiveRefusedError: The text beside it can't be read, or all together are too large.
        """
        text = self._texts[name] if name in self._texts else self._text_beside(name)
        details = self.details_of(name)
        if self._options.pages:
            details = replace(details, is_page=True)
        return self._count(name, text, details, name)

    def of_line(
        self, member: str, page_sha256: str, line: str, text: str | None, details: Details
    ) -> tuple[str | None, Details]:
        """Return the annotation of a line of a transcribed page, or None, and its metadata.

        Args:
            member: Image of the page.
            page_sha256: Of it.
            line: Id in the transcription.
            text: Likewise.
            details: Of the line, where no export says more.
        """
        name = line_of(page_sha256, line)
        known = self.details_of(name).completed_by(details)
        return self._count(name, text, known, f"{member}#{line}")

    def _count(
        self, name: str, text: str | None, details: Details, member: str
    ) -> tuple[str | None, Details]:
        """Count a row; drop its text if it is the prediction of an export, not edited since."""
        label = self._labels.get(name)
        if text is None or (label is not None and collapse(text) != collapse(label)):
            details = replace(details, how=None)
        text, details = self._report.checked(0, text, details, member)
        self._report.rows += 1
        self._report.with_text += text is not None
        return text, details

    def knows(self, name: str) -> bool:
        """Return whether anything is said of an image."""
        return name in self._texts or name in self._beside or name in self._details

    def details_of(self, name: str) -> Details:
        """Return what tables say of an image beside its text."""
        return self._details.get(name, NO_DETAILS)

    def _text_beside(self, name: str) -> str | None:
        if (beside := self._beside.get(name)) is None:
            return None
        content = self._read(beside, MAX_TEXT_BYTES)
        encoding = detect_encoding(BytesIO(content), self._options.encoding)
        text = "".join(line.text for line in open_lines(BytesIO(content), encoding)).strip()
        if not beside.lower().endswith(".gt.txt") and _holds_boxes(text):
            self._note(beside, 0, "no_ground_truth", "it holds boxes, not a text")
            return None
        if not is_text(text):
            self._note(beside, 0, "undecodable_row", "it is not valid UTF-8")
            return None
        return text or None

    def _add_table(self, name: str) -> None:
        content = self._read(name, MAX_TABLE_BYTES)
        report = Report()
        try:
            rows = list(rows_of(name, content, self._images, report, self._options))
        except (ValueError, RecursionError) as error:
            if not (is_companion(name) or _NO_TRUTH.search(PurePosixPath(name).name)):
                self._note(name, 0, "no_ground_truth", f"not a valid table: {error}")
            return
        found = 0
        for row in rows:
            found += self._add_row(name, row)
        if found or report.columns:
            self.used.add(name)
        is_table = (found or report.columns) and not sample_of(name, self._images)
        if is_table and len(self._report.tables) < MAX_TABLES:
            self._report.tables[name] = {
                "encoding": report.encoding,
                "separator": report.separator,
                "columns": report.columns,
                "metadata_columns": report.metadata_columns,
                "ignored_columns": report.ignored_columns,
                "rows": report.rows,
                "images": found,
            }
        for note in report.notes:
            self._note(name, note.line, note.code, note.detail)
        self._report.count_unkept(report)

    def _add_row(self, table: str, row: TableRow | Damaged) -> int:
        """Record a row; return whether it belongs to an image."""
        if isinstance(row, Damaged):
            self._note(table, row.line, row.code, row.detail)
            return 0
        image = self._images.find(row.where, str(PurePosixPath(table).parent))
        if image is None:
            if row.text is not None:
                self._report.texts_without_image += 1
                detail = f"no image, or several, named {row.where[:100]!r}"
                self._note(table, row.line, "no_such_image", detail)
            return 0
        self._add_details(table, row, image)
        if row.text is None:  # a list of images without texts, which may be beside them
            return 1
        known = self._texts.setdefault(image, row.text)
        if known is not None and collapse(known) != collapse(row.text):
            self._texts[image] = None
            detail = f"{image[:100]!r} has two texts that differ: none is taken"
            self._note(table, row.line, "texts_disagree", detail)
        return 1

    def _add_details(self, table: str, row: TableRow, image: str) -> None:
        """Store the metadata of an image; of conflicting rows the first is kept."""
        known = self._details.get(image, NO_DETAILS)
        both = known.completed_by(row.details)
        if both != row.details.completed_by(known):
            detail = f"other metadata of {image[:100]!r} is here before: that is kept"
            self._note(table, row.line, "metadata_disagrees", detail)
        if both != NO_DETAILS:
            self._details[image] = both

    def _note(self, member: str, line: int, code: str, detail: str) -> None:
        self._report.note(Note(line, code, detail[:300], member))

    def _read(self, name: str, max_bytes: int) -> bytes:
        content = self._archive.read(name, max_bytes=max_bytes)
        if len(content) > max_bytes:
            raise ArchiveRefusedError(f"{name} has more than {max_bytes} bytes"[:300])
        self._bytes_left -= len(content)
        if self._bytes_left < 0:
            detail = f"its tables and texts have more than {MAX_TRUTH_BYTES} bytes together"
            raise ArchiveRefusedError(detail)
        return content


def _beside(names: list[str], images: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each image with a text file beside it, and its name.

    ``a.gt.txt`` or ``a.txt`` beside ``a.png``; also beside ``a.nrm.png``, the processed forms of
    which share their text (OCRopus, GT4HistOCR), and beside ``a.1.png``, not if there is another.
    """
    texts = {canonical(name).casefold(): name for name in names if name.lower().endswith(".txt")}
    stems = {image: without_suffix(canonical(image)).casefold() for image in images}
    known = {*stems.values()}
    claims = Counter([*known, *map(_shorter, known)])
    for image, stem in stems.items():
        candidates = [f"{stem}.gt.txt", f"{stem}.txt"]
        if (shorter := _shorter(stem)) and (claims[shorter] == 1 or stem.endswith(_FORMS)):
            candidates.append(f"{shorter}.gt.txt")
        if found := next((texts[each] for each in candidates if each in texts), None):
            yield image, found


def _shorter(stem: str) -> str:
    """Return a name without its second suffix, or empty if it has none."""
    path = PurePosixPath(stem)
    return str(path.with_suffix("")) if path.suffix else ""


def _holds_boxes(text: str) -> bool:
    """Return whether each line is a class and coordinates, as detectors are trained with."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    return bool(lines) and all(
        len(line) >= 5
        and line[0].isdigit()
        and any("." in share for share in line[1:])
        and all(_SHARE.fullmatch(share) for share in line[1:])
        for line in lines
    )
