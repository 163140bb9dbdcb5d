"""Read the transcription of a page in any dialect, and scale it to the page's image."""

from dataclasses import replace
from itertools import pairwise

from services.common.domain.ground_truth.alto import Alto
from services.common.domain.ground_truth.elements import GroundTruthError, walk
from services.common.domain.ground_truth.page_xml import PageXml
from services.common.domain.ground_truth.transcript import (
    Place,
    TextLine,
    Transcript,
    TranscriptIssue,
)
from services.common.domain.page import line_id

MIN_SIDE = 4
"""Minimum side of a readable line, in pixels."""
MAX_DIFFERENCE = 0.02
"""Tolerated difference of both scales, from rounding of units."""
MIN_ON_PAGE = 0.95
"""Share of a line's area that must be on the page for its text to be what the page shows."""

_Point = tuple[float, float]


def read_transcript(content: bytes) -> Transcript:
    """Read a file of PAGE XML or ALTO.

    Raises:
        GroundTruthError: It is neither, corrupt, too large, or of several pages.
    """
    alto, page = Alto(), PageXml()
    readers: dict[str, Alto | PageXml] = {"alto": alto, "PcGts": page}
    root = walk(content, {name: reader.dialect for name, reader in readers.items()})
    return readers[root].finish()


def placed(transcript: Transcript, width: int, height: int) -> Transcript:
    """Return a transcript in whole pixels of an image, clipped to it.

    The scale follows from the size of the page, which has the same units as its lines, and never
    from a resolution, which is wrong in many files.

    Raises:
        GroundTruthError: The page has another shape than the image, or no size.
    """
    scales, problems = _scales(transcript, width, height), list(transcript.problems)
    lines: dict[str, TextLine] = {}
    """By the ids of their places, as their objects are."""
    for line in transcript.lines:
        whole = _scaled(line.polygon, scales)
        polygon = _on_page(whole, width, height)
        place = line_id([round(value) for value in polygon], width, height)
        if min(_extent(polygon)) < MIN_SIDE:
            where = " x ".join(f"{side:g}" for side in _extent(polygon))
            problems.append(
                TranscriptIssue("line_too_small", line.id, f"{where} pixels of it are on the page")
            )
        elif place in lines:
            problems.append(_repeated(lines, place, line))
        else:
            text = line.text
            if polygon != whole:
                problem = _clipped(line, _share_on_page(whole, width, height))
                text = text if problem.code == "line_clipped" else None
                problems.append(problem)
            baseline = line.baseline and _on_page(_scaled(line.baseline, scales), width, height)
            lines[place] = replace(line, text=text, polygon=polygon, baseline=baseline)
    if scales != (1.0, 1.0):
        detail = f"from {transcript.width:g} x {transcript.height:g} to {width} x {height}"
        problems.append(TranscriptIssue("scaled", "", detail))
    return replace(
        transcript,
        width=width,
        height=height,
        lines=tuple(lines.values()),
        problems=tuple(problems),
        is_pixels=True,
    )


def _scales(transcript: Transcript, width: int, height: int) -> tuple[float, float]:
    """Return the horizontal and vertical scale."""
    if not (transcript.width > 0 and transcript.height > 0):
        if transcript.is_pixels:
            return 1.0, 1.0
        raise GroundTruthError(
            "page_size_unknown", "units are not pixels, and the page has no size"
        )
    across, down = width / transcript.width, height / transcript.height
    if abs(across - down) > MAX_DIFFERENCE * max(across, down):
        detail = (
            f"the page is {transcript.width:g} x {transcript.height:g}, and its image of another "
            f"shape: {width} x {height}"
        )
        raise GroundTruthError("page_size_differs", detail)
    return across, down


def _scaled(place: Place, scales: tuple[float, float]) -> Place:
    return tuple(round(value * scales[at % 2]) for at, value in enumerate(place))


def _on_page(place: Place, width: int, height: int) -> Place:
    """Clamp points to the page."""
    sides = (width, height)
    return tuple(min(max(value, 0), sides[at % 2]) for at, value in enumerate(place))


def _clipped(line: TextLine, share: float) -> TranscriptIssue:
    """Report a line that is partly outside; its text is not used if too much of it is."""
    if share >= MIN_ON_PAGE:
        return TranscriptIssue("line_clipped", line.id, "partly outside of the page")
    return TranscriptIssue("line_off_page", line.id, f"only {share:.0%} of it is on the page")


def _share_on_page(place: Place, width: int, height: int) -> float:
    """Return the share of a polygon's area that is on the page; 0 if it has no area."""
    points = list(zip(place[::2], place[1::2], strict=True))
    whole = _area(points)
    for axis, side in enumerate((width, height)):
        points = _above(points, axis, 0, 1)
        points = _above(points, axis, -side, -1)
    return _area(points) / whole if whole else 0.0


def _above(points: list[_Point], axis: int, bound: float, sign: int) -> list[_Point]:
    """Clip a polygon to where ``sign * value >= bound`` (Sutherland and Hodgman)."""
    kept: list[_Point] = []
    for start, end in pairwise([*points[-1:], *points]):
        before, after = sign * start[axis] - bound, sign * end[axis] - bound
        if (before < 0) != (after < 0):
            share = before / (before - after)
            kept.append(
                (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]))
            )
        if after >= 0:
            kept.append(end)
    return kept


def _area(points: list[_Point]) -> float:
    around = pairwise([*points[-1:], *points])
    return abs(sum(one[0] * two[1] - two[0] * one[1] for one, two in around)) / 2


def _extent(place: Place) -> tuple[float, float]:
    """Return width and height of a bounding box."""
    across, down = place[::2], place[1::2]
    return max(across) - min(across), max(down) - min(down)


def _repeated(lines: dict[str, TextLine], place: str, line: TextLine) -> TranscriptIssue:
    """Report a line at the place of another; of differing texts neither is used."""
    first = lines[place]
    if first.text == line.text:
        return TranscriptIssue("duplicate_line", line.id, f"it is line {first.id!r} once more")
    lines[place] = replace(first, text=None)
    return TranscriptIssue(
        "texts_disagree", line.id, f"line {first.id!r} has the same place, another text"
    )
