"""A page that is segmented again keeps what was found before, and what people have judged."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from services.common.domain.overlap import iou
from services.common.domain.page import Line, Quad
from services.common.domain.page_request import Cut
from services.segmenter import merging
from services.segmenter.cutting_again import cut_again
from services.segmenter.detection import DetectedLine
from services.segmenter.merging import Merged, PageGeometry, merge, to_run

NOW = datetime(2026, 11, 28, tzinfo=UTC)
PLACE = PageGeometry("ab" * 32, 1000, 1400)


def quad(top: int, *, left: int = 100, width: int = 800, height: int = 40) -> Quad:
    right, bottom = left + width, top + height
    return left, top, right, top, right, bottom, left, bottom


def segmented(
    *quads: Quad, before: tuple[Line, ...] = (), judged: tuple[str, ...] = (), run: str = "r1"
) -> Merged:
    found = [DetectedLine(each, 0.9) for each in quads]
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
    overlap = iou

    def counted(one: Quad, other: Quad) -> float:
        calls.append(one)
        return overlap(one, other)

    monkeypatch.setattr(merging, "iou", counted)

    after = segmented(*quads, before=before, run="r2")

    assert (after.kept, len(calls)) == (100, 100)


def test_what_may_be_no_line_is_marked_and_kept() -> None:
    standing = (50, 900, 50, 300, 90, 300, 90, 900)  # reads upwards
    lines = segmented(quad(100), quad(200), quad(300, width=20, height=12), standing).lines

    assert [line.marks for line in lines] == [(), (), ("small",), ("tall",)]


def drawn(
    top: int,
    *,
    line: Line | None,
    left: int = 100,
    width: int = 800,
    height: int = 40,
    by: str = "ada",
    seconds: int = 0,
) -> Cut:
    place, at = quad(top, left=left, width=width, height=height), NOW + timedelta(seconds=seconds)
    return Cut(quad=place, line=line.id if line else None, by=by, at=at)


def drawn_in_turn(before: Sequence[Line], *cuts: Cut) -> list[Quad]:
    """Return the places of the lines after requests, in the order in which they arrive."""
    for cut in cuts:
        if (after := cut_again(before, cut, PLACE, judged=())) is not None:
            before = after.lines
    return [line.quad for line in before if line.state == "current"]


def test_drawn_line_replaces_others_also_after_a_new_run() -> None:
    """One box over both halves; the next line is neither."""
    halves = quad(100, width=390), quad(100, left=510, width=390)
    before = segmented(*halves, quad(200)).lines
    left, right, below = before

    after = cut_again(before, drawn(100, line=left), PLACE, judged={right.id})

    assert after is not None
    (new,) = after.new
    assert (new.by, new.quad, set(new.replaces)) == ("ada", quad(100), {left.id, right.id})
    assert [line.id for line in after.lines if line.state == "current"] == [new.id, below.id]
    superseded = {line.id: line for line in after.lines if line.state == "superseded"}
    assert {line.superseded_by for line in superseded.values()} == {(new.id,)}
    assert [superseded[each.id].key for each in (left, right)] == [None, right.key]
    assert after.gone == (left,)  # the annotated one stays
    again = segmented(
        *halves, quad(102), quad(198), before=after.lines, judged=(right.id,), run="r2"
    )
    assert [line.id for line in again.lines if line.state == "current"] == [new.id, below.id]
    assert set(again.lines) == set(after.lines)
    assert (again.new, again.gone) == ((), ())


def test_cut_is_made_once_however_often_it_is_asked_for() -> None:
    (line,) = segmented(quad(100)).lines
    first = drawn(95, line=line)
    made = cut_again((line,), first, PLACE, judged=())
    assert made is not None

    again = cut_again(made.lines, first, PLACE, judged=())
    others = (
        first.model_copy(update={"by": "bob"}),
        drawn(90, line=line),
        drawn(96, line=None),
        drawn(95, line=made.new[0], height=39, seconds=1),  # one pixel: its id stays the same
    )

    assert again is not None
    assert (again.lines, again.new) == (made.lines, made.new)
    assert [each.key for each in again.gone] == [line.key]
    assert [cut_again(made.lines, each, PLACE, judged=()) for each in others] == [None] * len(
        others
    )


@pytest.mark.parametrize("arriving", ["12", "21", "121", "212", "1221"])
@pytest.mark.parametrize("is_added", [False, True])
def test_last_box_of_a_person_counts_however_it_arrives(arriving: str, *, is_added: bool) -> None:
    (line,) = segmented(quad(800 if is_added else 100)).lines
    of = None if is_added else line
    cuts = {"1": drawn(90, line=of), "2": drawn(95, line=of, height=50, seconds=1)}

    places = drawn_in_turn((line,), *(cuts[each] for each in arriving))

    assert places == [cuts["2"].quad, *([line.quad] if is_added else [])]


def test_first_of_two_people_counts_however_late_the_other_is() -> None:
    (line,) = segmented(quad(100)).lines
    cuts = drawn(90, line=line, by="bob"), drawn(95, line=line, seconds=1)

    assert drawn_in_turn((line,), *cuts) == [cuts[0].quad]


def test_added_line_that_was_moved_since_does_not_come_back() -> None:
    first = drawn(100, line=None)
    (added,) = made.new if (made := cut_again((), first, PLACE, judged=())) else ()
    moved, again = drawn(300, line=added, seconds=1), drawn(100, line=None, seconds=2)

    assert drawn_in_turn((), first, moved, first) == [moved.quad]
    assert drawn_in_turn((), first, moved, again) == [again.quad, moved.quad]


def test_drawn_line_can_be_drawn_again_even_as_it_was_found() -> None:
    (line,) = segmented(quad(100)).lines
    first = cut_again((line,), drawn(80, line=line, height=70), PLACE, judged=())
    assert first is not None

    second = cut_again(first.lines, drawn(100, line=first.new[0]), PLACE, judged=())

    assert second is not None
    states = {each.id: (each.state, each.superseded_by) for each in second.lines}
    assert states == {
        line.id: ("current", ()),
        first.new[0].id: ("superseded", (line.id,)),
    }
    assert second.gone == first.new
    found = segmented(quad(101), quad(80, height=70), before=second.lines, run="r2")
    assert set(found.lines) == set(second.lines)


def test_line_that_turns_out_upside_down_is_cut_again() -> None:
    (line,) = segmented(quad(100)).lines
    x1, y1, x2, y2, x3, y3, x4, y4 = line.quad

    after = segmented((x3, y3, x4, y4, x1, y1, x2, y2), before=(line,), run="r2")

    assert after.gone == (line,)
    assert len(after.new) == 1
