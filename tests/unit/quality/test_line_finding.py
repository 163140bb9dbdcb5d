"""Measures of line detection: found lines against known ones, and what is read in both."""

from collections.abc import Sequence

import pytest
from PIL import Image

from services.common.domain.page import Quad
from services.quality.line_finding import KnownLine, compare_lines, found_along, read_both

WIDTH, HEIGHT = 100, 20


def box(left: int, top: int, width: int = WIDTH, height: int = HEIGHT) -> Quad:
    right, bottom = left + width, top + height
    return left, top, right, top, right, bottom, left, bottom


def known(quad: Quad, text: str | None = None) -> KnownLine:
    *_, right, right_y, left, left_y = quad
    line = KnownLine.of(quad, (left, left_y - 4, right, right_y - 4), text)
    assert line is not None
    return line


LINES = [known(box(0, 0), "one"), known(box(0, 40), "two"), known(box(0, 80), "three")]
HALVES = [box(0, 0, 50), box(50, 0, 50)]
TWO_LINES = box(0, 0, height=60)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([box(0, 0), box(0, 40), box(0, 80)], {"same": 3, "covered": 3, "usable": 3}),
        (HALVES, {"same": 1, "covered": 0, "covered_by_any": 1, "usable": 0}),
        ([TWO_LINES], {"same": 0, "covered": 2, "merged": 2, "usable": 0}),
        ([box(0, 0, height=50)], {"same": 0, "covered": 1, "merged": 0, "usable": 1}),
        ([], {"known": 3, "found": 0, "covered": 0}),
        ([box(0, 0), box(0, 40), box(0, 80)], {"pairs": 2, "pairs_in_order": 2}),
        ([box(0, 0), box(0, 80), box(0, 40)], {"pairs": 2, "pairs_in_order": 0}),
        ([box(0, 0), box(300, 0), box(0, 40)], {"pairs": 1, "pairs_in_order": 1}),
        ([box(300, 0)], {"found": 1, "same": 0, "covered": 0, "pairs": 0}),
    ],
)
def test_found_lines_are_counted(found: Sequence[Quad], expected: dict[str, int]) -> None:
    counted = vars(compare_lines(LINES, found))

    assert {name: counted[name] for name in expected} == expected


def test_pieces_belong_to_a_line_along_its_baseline() -> None:
    found = [box(50, 0, 50), box(0, 80), box(0, 0, 50), box(300, 0)]

    assert found_along(LINES, found) == [[2, 0], [], [1]]
    assert found_along(LINES, []) == [[], [], []]
    assert found_along([], found) == []


def test_a_missed_line_counts_whole_and_one_without_text_not() -> None:
    lines = [*LINES[:2], known(box(0, 80))]
    finding = compare_lines(lines, HALVES)
    texts = iter(["on", "e", "one", "twi"])

    read_both(finding, Image.new("RGB", (200, 200)), lines, HALVES, lambda _: next(texts))

    assert (finding.characters, finding.errors, finding.errors_of_known) == (6, 4, 1)


def test_line_without_baseline_is_measured_at_mid_height() -> None:
    line = KnownLine.of(box(0, 0), None, None)

    assert line is not None
    assert compare_lines([line], [box(0, 5, height=10)]).covered == 1
    assert KnownLine.of((0, 0, 10, 0, 20, 0), None, None) is None
