"""The document of a page: where it is from, the lines found on it, and by which runs.

Coordinates are whole pixels of the page as its file is stored and upright, from the top left.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import quote, unquote

from pydantic import ValidationError

from services.common.domain.keys import GIVEN
from services.common.domain.records import EMPTY_IF_NULL, Record, required

Quad = tuple[int, int, int, int, int, int, int, int]
"""Four corners ``x, y`` of a line: top left, top right, bottom right, bottom left, as it reads."""
Points = tuple[int, ...]
"""``x, y`` of each point of a polygon or a baseline, one after the other."""

PAGES_BUCKET = "pages"

Turn = Literal[0, 90, 180, 270]
"""Degrees, clockwise, by which a stored page is turned to be read."""
LineState = Literal["current", "superseded"]
Mark = Literal["small", "tall"]
"""Suspicions that a line is not text: shorter than lines are high, or taller than wide."""

_LISTS = {"quad", "polygon", "baseline", "replaces"}
"""Fields of a line that are encoded with commas."""
_MAX_REPLACED = 10
"""Ids of replaced lines in metadata; all are in the document of the page."""
_MAX_NAME_LENGTH = 300
"""Of a transcription's name in metadata, percent-encoded."""
_ID_DIGITS = 16
_STEPS = 1000
"""Per side of the page: corners that differ by less give the same line."""


class ProposedText(Record):
    """Counts of the text layer of a PDF for the lines of one of its pages."""

    model_config = required("proposed", "damaged", "hidden")

    proposed: int = 0
    """Lines."""
    damaged: int = 0
    """Lines whose text has characters of unknown meaning, and is not proposed."""
    hidden: int = 0
    """Characters that cannot be seen on the page, and are not used."""


class Line(Record):
    """A line of a page."""

    model_config = required("id", "quad", "order", "state")

    id: str = ""
    """Of its place on the page; see ``line_id``."""
    key: str | None = None
    """In the bucket of line images; None: no picture is stored."""
    quad: Quad = (0, 0, 0, 0, 0, 0, 0, 0)
    polygon: Points | None = None
    """As ground truth gives it; a detector gives the quad alone."""
    baseline: Points | None = None
    order: int = 0
    """Place in reading order, from 0."""
    score: float | None = None
    """Of the detector, 0 to 1."""
    run: str | None = None
    """``id`` of the run that first found it."""
    state: LineState = "current"
    marks: Annotated[tuple[Mark, ...], EMPTY_IF_NULL] = ()
    superseded_by: Annotated[tuple[str, ...], EMPTY_IF_NULL] = ()
    """Lines of a later run in its place, where it is kept for its annotation, or the line that a
    person drew instead."""
    replaces: Annotated[tuple[str, ...], EMPTY_IF_NULL] = ()
    """Lines that a person replaced by this one."""
    by: str | None = None
    """Person who drew it; no run moves or replaces it."""
    at: datetime | None = None
    """When they drew it."""

    def is_drawn_by(self, person: str, at: datetime) -> bool:
        """Return whether a person's request of this time, or a later one of theirs, drew it."""
        return self.by == person and self.at is not None and self.at >= at


class TrueLine(Record):
    """A line of the ground truth."""

    model_config = required("text")

    line: str | None = None
    """``id`` of the resulting line of the page; None: see ``problem``."""
    name: str | None = None
    """Its own id in the file."""
    region: str | None = None
    tags: Annotated[tuple[str, ...], EMPTY_IF_NULL] = ()
    text: str | None = None
    """As written, before any rule; None: the line is not transcribed."""
    problem: str | None = None
    """Stable code of the reason for no line, or no annotation."""


TranscriptKind = Literal["page", "alto", "text"]


class GroundTruth(Record):
    """A transcription that came with a page."""

    model_config = required("kind", "sha256", "lines")

    kind: TranscriptKind = "page"
    sha256: str = ""
    """Of the file."""
    name: str | None = None
    rules: str | None = None
    """Name of the rules by which texts became annotations."""
    licence: str | None = None
    by: str | None = None
    lines: Annotated[tuple[TrueLine, ...], EMPTY_IF_NULL] = ()


class PageOfLine(Record):
    """Page and position that a line image was cut from: ``page`` of its document in ``images``."""

    model_config = required("id", "line")

    id: str = ""
    """Of the page's document; pages of archives have none."""
    line: str = ""
    document: str | None = None
    """SHA-256 of the PDF or TIFF that the page is of."""
    group: str | None = None
    number: int | None = None
    """Of the page in its document, from 1."""
    quad: Quad | None = None
    order: int | None = None
    run: str | None = None
    score: float | None = None
    text_layer: str | None = None
    """Text of the PDF at this place, which is proposed to people."""
    by: str | None = None
    """Person who drew it."""
    replaces: tuple[str, ...] | None = None
    """``line`` of those that it was drawn instead of."""
    width: int | None = None
    """Of the page."""
    height: int | None = None
    image: str | None = None
    """Path of the page in its archive; this and what follows is of lines that came with a
    transcription."""
    name: str | None = None
    """Id of the line in the transcription."""
    region: str | None = None
    tags: tuple[str, ...] | None = None
    polygon: Points | None = None
    baseline: Points | None = None

    @property
    def place(self) -> Points:
        """Its polygon, or else its box; empty if neither is known."""
        points = self.polygon or ()
        return points if len(points) > 1 and not len(points) % 2 else self.quad or ()


def line_id(points: Sequence[int], width: int, height: int) -> str:
    """Return the id of a line by its place: 16 hex digits, equal for equal findings."""
    sides = (width, height)
    rounded = (round(value * _STEPS / sides[at % 2]) for at, value in enumerate(points))
    return hashlib.sha256(",".join(map(str, rounded)).encode()).hexdigest()[:_ID_DIGITS]


def line_name(page: PageOfLine) -> str:
    """Return the id of a line in a transcription: its own, or one by its place."""
    return page.name or f"line-{page.line}"


def transcript_to_metadata(transcript: GroundTruth) -> dict[str, str]:
    """Encode as user metadata of a page's object: its lines are cut already."""
    name = quote(transcript.name or "", safe="/")
    named = {"transcript-name": name} if 0 < len(name) <= _MAX_NAME_LENGTH else {}
    return {
        "transcript-kind": transcript.kind,
        "transcript-sha256": transcript.sha256,
        **named,
    }


def transcript_from_metadata(key: str, metadata: Mapping[str, str]) -> GroundTruth | None:
    """Decode user metadata of a page's object; None: its lines are not cut yet."""
    if not key.startswith(GIVEN):
        return None
    try:
        return GroundTruth.model_validate(
            {
                "kind": metadata.get("transcript-kind"),
                "sha256": metadata.get("transcript-sha256"),
                "name": unquote(metadata.get("transcript-name", "")) or None,
                "lines": (),
            }
        )
    except ValidationError:
        return None


def page_to_metadata(page: PageOfLine | None) -> dict[str, str]:
    """Encode as user metadata of a line's object, each name with ``page-`` before it.

    The group is left out where it is the page itself.
    """
    if page is None:
        return {}
    known = page.model_dump(exclude_none=True)
    if page.group == page.id:
        del known["group"]
    if page.replaces is not None:
        known["replaces"] = page.replaces[:_MAX_REPLACED]
    for name in _LISTS & known.keys():
        known[name] = ",".join(map(str, known[name]))
    if page.tags is not None:
        known["tags"] = json.dumps(page.tags)
    return {
        f"page-{name.replace('_', '-')}": quote(str(value), safe="/,")
        for name, value in known.items()
    }


def page_from_metadata(metadata: dict[str, str]) -> PageOfLine | None:
    """Decode user metadata of a line's object; None if it is of no page, or invalid."""
    prefix = "page-"
    known: dict[str, object] = {
        name.removeprefix(prefix).replace("-", "_"): unquote(value, errors="replace")
        for name, value in metadata.items()
        if name.startswith(prefix)
    }
    if not known.get("id") or not known.get("line"):
        return None
    for name in _LISTS & known.keys():
        known[name] = str(known[name]).split(",")
    try:
        if "tags" in known:
            known["tags"] = json.loads(str(known["tags"]))
        return PageOfLine.model_validate({"group": known["id"], **known})
    except (ValidationError, ValueError):
        return None
