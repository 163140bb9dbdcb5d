"""CPU-bound work: find the lines of a page and cut them out."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from services.common.domain.errors import PermanentError
from services.common.domain.line_images import cut_line, to_webp
from services.common.domain.page import Line, Points, Quad, Turn
from services.common.domain.page_request import turned_quad, turned_size
from services.segmenter.decoding import DecodingLimits, decode_with_text
from services.segmenter.detection import DetectedLine, Detector, Pixels
from services.segmenter.reading_order import reading_order
from services.segmenter.text_layer import NO_TEXT, TextLayer


class NoLinesError(PermanentError):
    """No line of text was found on the page."""

    code = "no_lines"


class TooManyLinesError(PermanentError):
    """More lines were found than a document of a page can have."""

    code = "too_many_lines"


@dataclass(frozen=True)
class DecodedPage:
    """A decoded page and its lines in reading order."""

    pixels: Pixels
    found: tuple[DetectedLine, ...]
    turn: Turn = 0
    """By which the lines were found."""
    layer: TextLayer = NO_TEXT
    seconds: dict[str, float] = field(default_factory=dict)
    """By step."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, as the page is stored."""
        height, width = self.pixels.shape[:2]
        return width, height


def find_lines(
    content: bytes,
    detector: Detector,
    *,
    limits: DecodingLimits,
    max_lines: int,
    turn: Turn = 0,
    may_be_blank: bool = False,
) -> DecodedPage:
    """Decode a page and find its lines.

    Args:
        content: The file.
        detector: Finds lines on an upright page.
        limits: Of decoding.
        max_lines: Limit of lines.
        turn: Of the page; the lines' places are on the page as it is stored.
        may_be_blank: Whether a page without lines is one.

    Raises:
        RefusedPageError, PageCostsTooMuchError: It can't be decoded.
        NoLinesError, TooManyLinesError: It is not a page of text.
    """
    started = time.monotonic()
    pixels, layer = decode_with_text(content, limits)
    decoded = time.monotonic()
    found = detector.find(np.ascontiguousarray(np.rot90(pixels, -turn // 90)))
    if not found and not may_be_blank:
        raise NoLinesError("no line of text was found on the page")
    if len(found) > max_lines:
        raise TooManyLinesError(f"{len(found)} lines, the limit is {max_lines}")
    height, width = pixels.shape[:2]
    ordered = tuple(
        replace(found[at], quad=_as_stored(found[at].quad, turn, width, height))
        for at in reading_order([line.quad for line in found])
    )
    seconds = {"decode": decoded - started, "detect": time.monotonic() - decoded}
    return DecodedPage(pixels, ordered, turn, layer, seconds)


def _as_stored(quad: Quad, turn: Turn, width: int, height: int) -> Quad:
    """Return where a quad of a turned page is on the page as it is stored, of this size."""
    back: dict[Turn, Turn] = {90: 270, 270: 90}
    return turned_quad(quad, back.get(turn, turn), *turned_size(turn, width, height))


def cut_lines(picture: DecodedPage, lines: Iterable[Line]) -> list[bytes]:
    """Return the image of each line."""
    page = Image.fromarray(picture.pixels)
    return [to_webp(cut_line(page, line.quad, baseline_of(line.quad))) for line in lines]


def baseline_of(quad: Quad) -> Points:
    """Return the lower side of a line, in its reading direction."""
    *_, right, right_y, left, left_y = quad
    return left, left_y, right, right_y
