"""Reads the transcription of a page, whatever its dialect, and puts it on the page's image."""

from dataclasses import replace

from services.common.domain.ground_truth.alto import Alto
from services.common.domain.ground_truth.elements import GroundTruthError, walk
from services.common.domain.ground_truth.page_xml import PageXml
from services.common.domain.ground_truth.transcript import Place, Problem, TextLine, Transcript

MIN_SIDE = 4
"""Pixels: of a line that has fewer on a side nothing can be read."""
MAX_DIFFERENCE = 0.02
"""By which the scales across and down may differ: what rounding makes of other units."""


def read_transcript(content: bytes) -> Transcript:
    """Read a file of PAGE XML or ALTO.

    Raises:
        GroundTruthError: It is neither, damaged, too large, or of several pages.
    """
    alto, page = Alto(), PageXml()
    readers: dict[str, Alto | PageXml] = {"alto": alto, "PcGts": page}
    root = walk(content, {name: reader.dialect for name, reader in readers.items()})
    return readers[root].finish()


def placed(transcript: Transcript, width: int, height: int) -> Transcript:
    """Return a transcript in whole pixels of an image, without what is not on it.

    Units are never converted by a resolution: many files give a wrong one. The size of the page,
    which is in the same units as its lines, says how large they are on the image.

    Args:
        transcript: As its file says.
        width: Of the image, upright.
        height: Of the image, upright.

    Raises:
        GroundTruthError: The page has another shape than the image, or no size.
    """
    scales, problems = _scales(transcript, width, height), list(transcript.problems)
    lines: dict[Place, TextLine] = {}
    for line in transcript.lines:
        polygon = _on_page(_scaled(line.polygon, scales), width, height)
        if min(_extent(polygon)) < MIN_SIDE:
            where = " x ".join(f"{side:g}" for side in _extent(polygon))
            problems.append(
                Problem("line_too_small", line.id, f"{where} pixels of it are on the page")
            )
        elif polygon in lines:
            problems.append(_repeated(lines, polygon, line))
        else:
            if polygon != _scaled(line.polygon, scales):
                problems.append(Problem("line_clipped", line.id, "a part of it is not on the page"))
            baseline = line.baseline and _on_page(_scaled(line.baseline, scales), width, height)
            lines[polygon] = replace(line, polygon=polygon, baseline=baseline)
    if scales != (1.0, 1.0):
        detail = f"from {transcript.width:g} x {transcript.height:g} to {width} x {height}"
        problems.append(Problem("scaled", "", detail))
    return replace(
        transcript,
        width=width,
        height=height,
        lines=tuple(lines.values()),
        problems=tuple(problems),
        is_pixels=True,
    )


def _scales(transcript: Transcript, width: int, height: int) -> tuple[float, float]:
    """Return by how much coordinates across and down are multiplied."""
    if not (transcript.width > 0 and transcript.height > 0):
        if transcript.is_pixels:
            return 1.0, 1.0
        raise GroundTruthError(
            "page_size_unknown", "its units are not pixels, and its page no size"
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
    """Return a place with what is outside moved to the edge."""
    sides = (width, height)
    return tuple(min(max(value, 0), sides[at % 2]) for at, value in enumerate(place))


def _extent(place: Place) -> tuple[float, float]:
    """Return width and height of what a place takes."""
    across, down = place[::2], place[1::2]
    return max(across) - min(across), max(down) - min(down)


def _repeated(lines: dict[Place, TextLine], polygon: Place, line: TextLine) -> Problem:
    """Note a line at the place of another; where they differ, neither says what is there."""
    first = lines[polygon]
    if first.text == line.text:
        return Problem("duplicate_line", line.id, f"it is line {first.id!r} once more")
    lines[polygon] = replace(first, text=None)
    return Problem("texts_disagree", line.id, f"line {first.id!r} has the same place, another text")
