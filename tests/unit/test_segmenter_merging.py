"""A page that is segmented again keeps what was found before, and what people have judged."""

import pytest

from services.common.domain.page import Line, Quad
from services.segmenter import merging
from services.segmenter.detection import Found
from services.segmenter.merging import Merged, Place, merge, to_run

PLACE = Place("ab" * 32, 1000, 1400)


def quad(top: int, *, left: int = 100, width: int = 800, height: int = 40) -> Quad:
    right, bottom = left + width, top + height
    return left, top, right, top, right, bottom, left, bottom


def segmented(
    *quads: Quad, before: tuple[Line, ...] = (), judged: tuple[str, ...] = (), run: str = "r1"
) -> Merged:
    found = [Found(each, 0.9) for each in quads]
    return merge(before, found, PLACE, run=run, judged=judged)


def test_equal_findings_have_equal_keys() -> None:
    first, second = (segmented(quad(100), quad(200)) for _ in range(2))

    assert first == second
    assert [line.order for line in first.lines] == [0, 1]
    assert first.new == first.lines
    assert all((line.key or "").startswith(f"lines/ab/{'ab' * 32}/") for line in first.lines)


def test_line_that_is_found_again_stays_as_it_is() -> None:
    before = segmented(quad(100), quad(200)).lines

    after = segmented(quad(50), quad(103), quad(198), before=before, run="r2")

    kept = [line for line in after.lines if line.run == "r1"]
    assert [(line.key, line.quad) for line in kept] == [(line.key, line.quad) for line in before]
    assert [line.order for line in kept] == [1, 2]  # in the order of now
    assert [line.quad for line in after.new] == [quad(50)]
    assert (after.kept, after.gone) == (2, ())


@pytest.mark.parametrize("is_judged", [False, True])
def test_line_that_is_not_found_again(is_judged: bool) -> None:  # noqa: FBT001
    """One without an annotation goes; the others stay and lead to what took their place."""
    (line,) = segmented(quad(100)).lines
    judged = (line.id,) if is_judged else ()

    after = segmented(
        quad(100, width=390),
        quad(100, left=510, width=390),
        before=(line,),
        judged=judged,
        run="r2",
    )

    superseded = [each for each in after.lines if each.state == "superseded"]
    assert after.gone == (() if is_judged else (line,))
    assert [each.id for each in superseded] == list(judged)
    assert all(set(each.superseded_by) == {new.id for new in after.new} for each in superseded)
    assert to_run("r2", "detector", "2", after, 1.0).gone == 1


def test_superseded_line_that_is_found_again_is_current() -> None:
    (line,) = segmented(quad(100)).lines
    superseded = line.having(state="superseded", superseded_by=("x",))

    after = segmented(quad(101), before=(superseded,), judged=(line.id,))

    assert after.lines == (line,)


def test_only_lines_that_touch_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    quads = [quad(60 * number) for number in range(100)]
    before, calls = segmented(*quads).lines, []
    overlap = merging._iou

    def counted(one: Quad, other: Quad) -> float:
        calls.append(one)
        return overlap(one, other)

    monkeypatch.setattr(merging, "_iou", counted)

    after = segmented(*quads, before=before, run="r2")

    assert (after.kept, len(calls)) == (100, 100)


def test_what_may_be_no_line_is_marked_and_kept() -> None:
    standing = (50, 900, 50, 300, 90, 300, 90, 900)  # reads upwards
    lines = segmented(quad(100), quad(200), quad(300, width=20, height=12), standing).lines

    assert [line.marks for line in lines] == [(), (), ("small",), ("tall",)]
