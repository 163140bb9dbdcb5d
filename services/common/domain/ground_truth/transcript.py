"""The transcription of a page: its lines with their places, and what is odd about them."""

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
"""A text of less was read by a machine that doubts it: it is no ground truth."""
_LARGEST = 1e9
_NUMBER = re.compile(r"[^\s,]+")

Kind = Literal["page", "alto"]
Place = tuple[float, ...]
"""``x, y`` of each point, one after the other."""


class Problem(NamedTuple):
    """What is odd, and where."""

    code: str
    line: str
    """Id of the line; empty: it is of the page."""
    detail: str


class Reading(NamedTuple):
    """A text, and why it may not be what the line reads."""

    text: str
    confidence: float = 1.0
    code: str = ""
    """Of the problem with it: ``several_readings``, ``readings_disagree``, ``unclear_text``."""


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line of a transcription."""

    id: str
    """As in the file; where that has none, or has it twice, by the line's number."""
    text: str | None
    """As written; None: it is not transcribed, or nobody can be sure what it reads."""
    polygon: Place
    baseline: Place | None = None
    region: str | None = None
    """Id of the region that it is in."""
    tags: tuple[str, ...] = ()
    """What kind of line it is, then of its region: ``handwritten``, ``heading``, ``MarginZone``."""


@dataclass(frozen=True)
class Transcript:
    """What a file says of a page."""

    kind: Kind
    image: str
    """Name of its image, as the file says it; empty: it says none."""
    width: float
    """Of the page, in the units of the lines; 0: it is not said."""
    height: float
    lines: tuple[TextLine, ...]
    """In reading order."""
    problems: tuple[Problem, ...] = ()
    is_pixels: bool = True
    """Whether units are pixels, as the file says."""


@dataclass
class Draft:
    """A transcript while it is read."""

    image: str = ""
    width: float = 0
    height: float = 0
    pages: int = 0
    ordered: list[tuple[tuple[float, ...], TextLine]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def begin_page(self, width: str, height: str) -> None:
        """Note the size of the page.

        Raises:
            GroundTruthError: There was one before.
        """
        self.pages += 1
        if self.pages > 1:
            raise GroundTruthError("several_pages", "it is of several pages: a file each is read")
        self.width, self.height = number(width) or 0, number(height) or 0

    def new_id(self, own: str) -> str:
        """Return the id of the next line, or one by its number where that is missing or taken.

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
        """Take a line, whose place among the others is ``order``, and then by the file."""
        self.ordered.append(((*order, len(self.ordered)), line))

    def note(self, code: str, line: str, detail: str) -> None:
        """Note what is odd."""
        self.problems.append(Problem(code, line, detail))

    def text_of(self, reading: Reading | None, line: str) -> str | None:
        """Return what a line reads, or None where that is nothing, or not sure; note which."""
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
        """Return all of it, in reading order."""
        lines = tuple(line for _, line in sorted(self.ordered, key=lambda each: each[0]))
        problems = tuple(self.problems)
        return Transcript(kind, self.image, self.width, self.height, lines, problems, is_pixels)


def joined(parts: Sequence[Reading], separator: str = " ") -> Reading | None:
    """Return the text of a line whose words are read each by itself, as sure as the least."""
    if not parts:
        return None
    codes = [each.code for each in parts if each.code]
    code = next((each for each in codes if each != "several_readings"), "".join(codes[:1]))
    text = separator.join(each.text for each in parts)
    return Reading(text, min(each.confidence for each in parts), code)


def number(text: str) -> float | None:
    """Return a number, or None where a text is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) and abs(value) < _LARGEST else None


def points(text: str, *, least: int) -> Place | None:
    """Return points ``x,y x,y``; None: they are none, or fewer than ``least``.

    Dialects differ in where they put commas and spaces.
    """
    if len(text) > 64 * MAX_POINTS:
        return None
    values = [number(found) for found in _NUMBER.findall(text)]
    known = tuple(value for value in values if value is not None)
    is_whole = len(known) == len(values) and not len(values) % 2
    return known if is_whole and least * 2 <= len(values) <= MAX_POINTS * 2 else None


def references(group: Element, attribute: str) -> list[str]:
    """Return what the nested groups of a reading order refer to, in that order."""
    found: list[str] = []
    for child in sorted(group.children, key=lambda each: number(each.get("index")) or 0):
        if reference := child.get(attribute):
            found.append(reference)
        found += references(child, attribute)
    return found
