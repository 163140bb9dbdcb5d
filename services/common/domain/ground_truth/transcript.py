"""The transcription of a page: its lines with their positions, and issues."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal, NamedTuple

from services.common.domain.ground_truth.elements import Element, GroundTruthError

MAX_LINES = 5000
MAX_ID_LENGTH = 200
MAX_POINTS = 2000
"""Of a polygon or a baseline."""
MIN_CONFIDENCE = 0.9
"""Minimum confidence: less is uncertain output of a recogniser, not ground truth."""
_LARGEST = 1e9
_NUMBER = re.compile(r"[^\s,]+")

Kind = Literal["page", "alto"]
Place = tuple[float, ...]
"""``x, y`` of each point, one after the other."""


class TranscriptIssue(NamedTuple):
    """An issue and its location."""

    code: str
    line: str
    """Id of the line; empty for the page."""
    detail: str


class TranscribedText(NamedTuple):
    """A text and its confidence."""

    text: str
    confidence: float = 1.0
    code: str = ""
    """Of the problem with it: ``several_readings``, ``readings_disagree``, ``unclear_text``."""


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line of a transcription."""

    id: str
    """As in the file; if missing or duplicate, by the line's number."""
    text: str | None
    """As written; None: not transcribed, or uncertain."""
    polygon: Place
    baseline: Place | None = None
    region: str | None = None
    """Id of the region that it is in."""
    tags: tuple[str, ...] = ()
    """Kinds of the line, then of its region: ``handwritten``, ``heading``, ``MarginZone``."""


@dataclass(frozen=True)
class Transcript:
    """Transcription of a page in a file."""

    kind: Kind
    image: str
    """Name of its image in the file, or empty."""
    width: float
    """Of the page, in the units of the lines; 0: unknown."""
    height: float
    lines: tuple[TextLine, ...]
    """In reading order."""
    problems: tuple[TranscriptIssue, ...] = ()
    is_pixels: bool = True
    """Whether units are pixels, according to the file."""


@dataclass
class Draft:
    """A transcript under construction."""

    image: str = ""
    width: float = 0
    height: float = 0
    pages: int = 0
    ordered: list[tuple[tuple[float, ...], TextLine]] = field(default_factory=list)
    problems: list[TranscriptIssue] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def begin_page(self, width: str, height: str) -> None:
        """Set the size of the page.

        Raises:
            GroundTruthError: There is a second page.
        """
        self.pages += 1
        if self.pages > 1:
            raise GroundTruthError(
                "several_pages", "several pages in one file: use one file per page"
            )
        self.width, self.height = number(width) or 0, number(height) or 0

    def new_id(self, own: str) -> str:
        """Return the id of the next line, or one by its number if missing or duplicate.

        Raises:
            GroundTruthError: There are too many lines.
        """
        if len(self.ids) >= MAX_LINES:
            raise GroundTruthError("xml_too_large", f"the page has more than {MAX_LINES} lines")
        line = own.strip()[:MAX_ID_LENGTH]
        if not line or line in self.ids:
            line = f"line-{len(self.ids) + 1}"
            while line in self.ids:
                line += "-"
            code = "duplicate_line_id" if own.strip() else "line_without_id"
            self.note(code, line, f"the line's own id is {own[:100]!r}")
        self.ids.add(line)
        return line

    def add(self, line: TextLine, order: Sequence[float]) -> None:
        """Add a line, sorted by ``order``, then by position in the file."""
        self.ordered.append(((*order, len(self.ordered)), line))

    def note(self, code: str, line: str, detail: str) -> None:
        """Add an issue."""
        self.problems.append(TranscriptIssue(code, line, detail))

    def text_of(self, reading: TranscribedText | None, line: str) -> str | None:
        """Return the text of a line, or None if it is missing or uncertain; add an issue."""
        if reading is None or not reading.text.strip():
            self.note("line_without_text", line, "nothing is transcribed")
            return None
        if reading.code:
            self.note(reading.code, line, f"read first: {reading.text[:100]!r}")
        if reading.confidence < MIN_CONFIDENCE:
            detail = f"confidence {reading.confidence:.2f} of {reading.text[:100]!r}"
            self.note("low_confidence", line, detail)
        is_sure = reading.confidence >= MIN_CONFIDENCE and reading.code in {"", "several_readings"}
        return reading.text if is_sure else None

    def finish(self, kind: Kind, *, is_pixels: bool = True) -> Transcript:
        """Return the transcript in reading order."""
        lines = tuple(line for _, line in sorted(self.ordered, key=lambda each: each[0]))
        problems = tuple(self.problems)
        return Transcript(kind, self.image, self.width, self.height, lines, problems, is_pixels)


def joined(parts: Sequence[TranscribedText]) -> TranscribedText | None:
    """Return the text of a line of separate words, with the lowest confidence."""
    if not parts:
        return None
    codes = [each.code for each in parts if each.code]
    code = next((each for each in codes if each != "several_readings"), "".join(codes[:1]))
    text = " ".join(each.text for each in parts)
    return TranscribedText(text, min(each.confidence for each in parts), code)


def number(text: str) -> float | None:
    """Parse a number, or return None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) and abs(value) < _LARGEST else None


def points(text: str, *, least: int) -> Place | None:
    """Parse points ``x,y x,y``; None: invalid, or fewer than ``least``.

    Dialects differ in where they put commas and spaces.
    """
    if len(text) > 64 * MAX_POINTS:
        return None
    values = [number(found) for found in _NUMBER.findall(text)]
    known = tuple(value for value in values if value is not None)
    is_whole = len(known) == len(values) and not len(values) % 2
    return known if is_whole and least * 2 <= len(values) <= MAX_POINTS * 2 else None


def references(group: Element, attribute: str) -> list[str]:
    """Return the references of nested groups of a reading order, in order."""
    found: list[str] = []
    for child in sorted(group.children, key=lambda each: number(each.get("index")) or 0):
        if reference := child.get(attribute):
            found.append(reference)
        found += references(child, attribute)
    return found
