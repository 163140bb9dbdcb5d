"""Read ALTO, versions 1 to 4, as written by eScriptorium, Transkribus, pdfalto and libraries.

https://www.loc.gov/standards/alto/
"""

from collections.abc import Sequence

from services.common.domain.ground_truth.elements import Dialect, Element
from services.common.domain.ground_truth.transcript import (
    Draft,
    Place,
    TextLine,
    TranscribedText,
    Transcript,
    joined,
    number,
    points,
    references,
)

_TAGS = ("LayoutTag", "StructureTag", "RoleTag", "NamedEntityTag", "OtherTag")
_SOFT_HYPHEN = "\xad"
_LAST = float("inf")


class Alto:
    """State of reading an ALTO file."""

    def __init__(self) -> None:
        self._draft = Draft()
        self._unit = "pixel"
        self._labels: dict[str, str] = {}
        """Of tags, by their ids."""
        self._ranks: dict[str, int] = {}
        self._blocks: dict[str, int] = {}

    @property
    def dialect(self) -> Dialect:
        """Elements to read."""
        return Dialect(
            began={"Page": self._begin_page, **dict.fromkeys(_TAGS, self._add_tag)},
            whole={
                "MeasurementUnit": self._set_unit,
                "fileName": self._set_image,
                "ReadingOrder": self._order,
                "TextLine": self._add_line,
            },
        )

    def finish(self) -> Transcript:
        """Return the transcript."""
        return self._draft.finish("alto", is_pixels=self._unit == "pixel")

    def _begin_page(self, page: Element, _: Sequence[Element]) -> None:
        self._draft.begin_page(page.get("WIDTH"), page.get("HEIGHT"))

    def _add_tag(self, tag: Element, _: Sequence[Element]) -> None:
        self._labels[tag.get("ID")] = tag.get("LABEL")

    def _set_unit(self, unit: Element, _: Sequence[Element]) -> None:
        self._unit = unit.text.strip().lower() or self._unit

    def _set_image(self, name: Element, parents: Sequence[Element]) -> None:
        if parents[-1].name == "sourceImageInformation":
            self._draft.image = name.text.strip()

    def _order(self, order: Element, _: Sequence[Element]) -> None:
        for each in references(order, "REF"):
            self._ranks.setdefault(each, len(self._ranks))

    def _add_line(self, element: Element, parents: Sequence[Element]) -> None:
        draft = self._draft
        blocks = [each for each in parents if each.name.endswith("Block")]
        ids = [each.get("ID") for each in blocks]
        block = ids[-1] if ids else ""
        place = self._blocks.setdefault(block, len(self._blocks))
        line = draft.new_id(element.get("ID"))
        if (polygon := _polygon(element)) is None:
            draft.note("line_without_polygon", line, "it has neither a polygon nor a box")
            return
        ranked = (element.get("ID"), *reversed(ids))
        rank = next((self._ranks[each] for each in ranked if each in self._ranks), _LAST)
        tags = [*self._tags(element), *(self._tags(blocks[-1]) if blocks else ())]
        draft.add(
            TextLine(
                line,
                draft.text_of(_reading(element), line),
                polygon,
                _baseline(element),
                block or None,
                tuple(dict.fromkeys(tags)),
            ),
            (rank, place),
        )

    def _tags(self, element: Element) -> list[str]:
        known = (self._labels.get(each, "") for each in element.get("TAGREFS").split())
        return [each for each in known if each]


def _polygon(line: Element) -> Place | None:
    """Return the polygon of a line, otherwise its box."""
    shape = line.first("Shape")
    polygon = None if shape is None else shape.first("Polygon")
    if polygon is not None:
        return points(polygon.get("POINTS"), least=3)
    left, top, width, height = (
        number(line.get(name)) for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT")
    )
    if left is None or top is None or not width or not height:
        return None
    right, bottom = left + width, top + height
    return (left, top, right, top, right, bottom, left, bottom)


def _baseline(line: Element) -> Place | None:
    """Return the points of a baseline; before version 4.1 it is the height of a level one."""
    text = line.get("BASELINE")
    level, left, width = number(text), number(line.get("HPOS")), number(line.get("WIDTH"))
    if level is None:
        return points(text, least=2)
    return None if left is None or not width else (left, level, left + width, level)


def _reading(line: Element) -> TranscribedText | None:
    """Return the text of a line: its strings as shown on the image, with a hyphen at its end.

    Many writers omit the ``SP`` between two ``String``, which are separate words nevertheless.
    ``SUBS_CONTENT``, the whole of a hyphenated word, is not shown.
    """
    parts: list[TranscribedText] = []
    for child in line.children:
        if child.name == "String" and (text := child.get("CONTENT")).strip():
            confidence = number(child.get("WC"))
            parts.append(TranscribedText(text, 1.0 if confidence is None else confidence))
        elif child.name == "HYP" and parts:
            hyphen = child.get("CONTENT").replace(_SOFT_HYPHEN, "-") or "-"
            parts[-1] = parts[-1]._replace(text=parts[-1].text.rstrip() + hyphen)
    return joined(parts)
