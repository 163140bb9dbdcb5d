"""Lines are found on a page, put into reading order and cut out."""

from io import BytesIO

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from services.common.domain.page import Line
from services.segmenter.detection import PaddleDetector, ProbabilityMap, load_detector
from services.segmenter.joining import MOST_PIECES, Box, join_pieces
from services.segmenter.pictures import DecodedPage, cut_lines
from services.segmenter.reading_order import reading_order
from tests.support.pages import LEFT_LINES, RIGHT_LINES, draw_page, to_pixels

SIDE = 1280


@pytest.fixture(scope="module")
def detector() -> PaddleDetector:
    return load_detector(longest_side=SIDE)


@pytest.mark.parametrize("degrees", [0, 4, -4])
def test_every_line_of_a_page_is_found(detector: PaddleDetector, degrees: float) -> None:
    found = detector.find(to_pixels(draw_page(degrees=degrees)))

    assert len(found) == len(LEFT_LINES) + len(RIGHT_LINES)
    for line in found:
        x1, y1, x2, y2, *_ = line.quad
        assert x2 - x1 > 300
        assert np.degrees(np.arctan2(y1 - y2, x2 - x1)) == pytest.approx(degrees, abs=1.5)


def test_columns_are_read_one_after_the_other(detector: PaddleDetector) -> None:
    found = detector.find(to_pixels(draw_page()))

    ordered = [found[at].quad[:2] for at in reading_order([line.quad for line in found])]

    assert [x < 500 for x, _ in ordered] == [True] * 3 + [False] * 2
    assert [y for _, y in ordered[:3]] == sorted(y for _, y in ordered[:3])


def test_lines_on_their_side_are_found_in_the_margin_alone() -> None:
    """On the page only pieces of them are seen."""

    def compute(batch: NDArray[np.float32]) -> ProbabilityMap:
        seen: ProbabilityMap = np.zeros_like(batch[0, 0])
        if len(seen) == SIDE:
            for top in range(100, 700, 100):
                seen[top : top + 20, 200:900] = 1
            for top in range(300, 800, 100):
                seen[top : top + 20, 60:80] = 1
        else:
            seen[60:80, 180:1180] = 1  # turned, it reads to the right
        return seen

    found = PaddleDetector(compute, longest_side=SIDE).find(np.zeros((1280, 960, 3), np.uint8))

    assert len(found) == 7
    x1, y1, x2, y2, x3, *_ = found[-1].quad
    assert [y1, y2] == pytest.approx([1100, 100], abs=20)
    assert x1 == x2 == pytest.approx(60, abs=20)
    assert x3 == pytest.approx(80, abs=20)
    order = reading_order([each.quad for each in reversed(found)])
    assert order[-1] == 0


def test_blank_page_has_no_lines(detector: PaddleDetector) -> None:
    assert detector.find(to_pixels(draw_page((), ()))) == []


def test_tiny_page_is_taken(detector: PaddleDetector) -> None:
    assert detector.find(np.full((1, 3, 3), 255, np.uint8)) == []


@pytest.mark.parametrize(
    ("pieces", "joined"),
    [
        ([Box(100, 50, 100, 20, 0, 1), Box(209, 50, 100, 20, 0, 1)], 1),
        (
            [Box(100, 50, 100, 20, 0, 1), Box(209, 55, 100, 16, 3, 1), Box(318, 60, 100, 20, 0, 1)],
            1,
        ),
        ([Box(100, 50, 100, 20, 0, 1), Box(215, 50, 100, 20, 0, 1)], 2),  # too far
        ([Box(100, 50, 100, 20, 0, 1), Box(209, 60, 100, 20, 0, 1)], 2),  # the line below
        ([Box(100, 50, 100, 20, 0, 1), Box(209, 50, 100, 44, 0, 1)], 1),  # a capital
        ([Box(100, 50, 100, 20, 0, 1), Box(205, 50, 100, 20, 40, 1)], 2),  # leans too much
        ([Box(100, 50, 20, 100, 0, 1), Box(121, 50, 20, 100, 0, 1)], 2),  # on their sides
    ],
)
def test_pieces_of_a_line_are_joined(pieces: list[Box], joined: int) -> None:
    assert len(join_pieces(pieces)) == joined
    assert len(join_pieces(pieces[::-1])) == joined


def test_too_many_pieces_are_not_joined() -> None:
    boxes = [Box(100 + 109 * (at % 2), 50 * at, 100, 20, 0, 1) for at in range(MOST_PIECES)]
    boxes[1] = boxes[0]._replace(x=209)

    assert len(join_pieces(boxes[:2])) == 1
    assert len(join_pieces([*boxes, boxes[0]])) == MOST_PIECES + 1


def test_line_is_cut_level() -> None:
    """A black bar on its slant fills the whole picture."""
    page = np.full((200, 300, 3), 255, np.uint8)
    quad = (50, 100, 249, 60, 253, 80, 54, 120)
    cv2.fillConvexPoly(page, np.array(quad, np.int32).reshape(4, 2), (0, 0, 0))

    [file] = cut_lines(DecodedPage(page, ()), [Line(quad=quad)])

    with Image.open(BytesIO(file)) as line:
        pixels = np.asarray(line.convert("RGB"))
    assert abs(pixels.shape[1] - 203) < 3
    assert abs(pixels.shape[0] - 20) < 3
    assert np.median(pixels) == 0


def test_box_reads_to_the_right_or_upwards() -> None:
    """A box that stands on its side is taken to read upwards, as margins are mostly written."""

    def compute(_: object) -> ProbabilityMap:
        probabilities = np.zeros((320, 640), np.float32)
        probabilities[20:40, 100:500] = 1
        probabilities[60:300, 20:40] = 1
        return probabilities

    found = PaddleDetector(compute, longest_side=640).find(np.zeros((320, 640, 3), np.uint8))

    directions = {
        (int(np.sign(q[2] - q[0])), int(np.sign(q[3] - q[1]))) for q in (f.quad for f in found)
    }
    assert directions == {(1, 0), (0, -1)}
