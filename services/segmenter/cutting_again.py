"""Decide what becomes of the lines of a page where a person drew another one: pure functions."""

from collections.abc import Collection, Sequence

from services.common.domain.keys import line_key
from services.common.domain.page import Line, line_id
from services.common.domain.page_request import Conflict, Cut, replaced_lines
from services.segmenter.merging import Merged, PageGeometry, in_order


def cut_again(
    before: Sequence[Line], cut: Cut, place: PageGeometry, *, judged: Collection[str]
) -> Merged | None:
    """Decide about a line that a person drew; None: the request has no effect any longer.

    It replaces the line that they named, and what was found of the same text (see
    ``replaced_lines``). Their images are deleted, unless annotated; that they were there is kept
    for later runs.

    Args:
        before: Lines of the page.
        cut: The person's.
        place: The page.
        judged: ``id`` of annotated lines.
    """
    name = line_id(cut.quad, place.width, place.height)
    old = replaced_lines(before, cut, name)
    if isinstance(old, Conflict):
        return None
    current = {line.id: line for line in before if line.state == "current"}
    if (known := current.get(name)) is not None:  # delivered again
        left = [line for line in before if name in line.superseded_by and line.key is None]
        gone = tuple(line.having(key=line_key(place.sha256, line.id)) for line in left)
        return Merged(tuple(before), (known,), gone, kept=0)
    earlier = [each for line in old for each in line.replaces]
    replaces = tuple(dict.fromkeys([*(line.id for line in old), *earlier]))
    new = Line(
        id=name,
        key=line_key(place.sha256, name),
        quad=cut.quad,
        by=cut.by,
        at=cut.at,
        state="current",
        order=0,
        replaces=tuple(each for each in replaces if each != name),
    )
    others = [_replaced_by(new, line, judged) for line in before if line.id != name]
    lines = in_order([*others, new], place)
    made = tuple(line for line in lines if line.id == name)
    return Merged(lines, made, tuple(line for line in old if line.id not in judged), kept=0)


def _replaced_by(new: Line, line: Line, judged: Collection[str]) -> Line:
    """Return a line as it is after a person drew one."""
    if line.id not in new.replaces:
        return line
    key = line.key if line.id in judged else None
    return line.having(state="superseded", superseded_by=(new.id,), key=key)
