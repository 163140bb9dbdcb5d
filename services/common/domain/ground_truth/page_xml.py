"""Read PAGE XML, versions 2009 to 2019, as written by eScriptorium, Transkribus and OCR-D.

https://github.com/PRImA-Research-Lab/PAGE-XML
"""

import re
from collections.abc import Mapping, Sequence

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

_CUSTOM = re.compile(r"([\w-]+)\s*\{([^}]*)\}")
"""Of Transkribus: ``readingOrder {index:0;} structure {type:heading;}``."""
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_DOUBTFUL = frozenset({"unclear", "gap"})
_LAST = float("inf")


class PageXml:
    """State of reading a PAGE XML file."""

    def __init__(self) -> None:
        self._draft = Draft()
        self._ranks: dict[str, int] = {}
        """Of regions, in the reading order that the file gives."""
        self._with_lines: dict[str, int] = {}
        """Regions in which a line was found, in their order."""
        self._with_text: set[str] = set()

    @property
    def dialect(self) -> Dialect:
        """Elements to read."""
        return Dialect(
            began={"Page": self._begin_page},
            whole={
                "ReadingOrder": self._order,
                "TextLine": self._add_line,
                "TextEquiv": self._note_text,
            },
        )

    def finish(self) -> Transcript:
        """Return the transcript."""
        for region in sorted(self._with_text - self._with_lines.keys()):
            detail = f"the text of region {region[:100]!r} has no lines"
            self._draft.note("text_without_lines", "", detail)
        return self._draft.finish("page")

    def _begin_page(self, page: Element, _: Sequence[Element]) -> None:
        self._draft.begin_page(page.get("imageWidth"), page.get("imageHeight"))
        self._draft.image = page.get("imageFilename")

    def _order(self, order: Element, _: Sequence[Element]) -> None:
        for region in references(order, "regionRef"):
            self._ranks.setdefault(region, len(self._ranks))

    def _note_text(self, text: Element, parents: Sequence[Element]) -> None:
        """Report the text of a region without lines."""
        if _unicode(text):
            self._with_text.add(parents[-1].get("id"))

    def _add_line(self, element: Element, parents: Sequence[Element]) -> None:
        draft = self._draft
        regions = [each for each in parents if each.name.endswith(("Region", "TableCell"))]
        ids = [each.get("id") for each in regions]
        region = ids[-1] if ids else ""
        place = self._with_lines.setdefault(region, len(self._with_lines))
        line, custom = draft.new_id(element.get("id")), _custom(element)
        if (polygon := _points_of(element, "Coords", least=3)) is None:
            draft.note("line_without_polygon", line, "its Coords are not a polygon")
            return
        reading = _reading(element) or joined(
            [found for word in element.named("Word") if (found := _reading(word))]
        )
        if reading is not None and custom.keys() & _DOUBTFUL:
            reading = reading._replace(code="unclear_text")
        rank = next((self._ranks[each] for each in reversed(ids) if each in self._ranks), _LAST)
        index = number(custom.get("readingOrder", {}).get("index", ""))
        tags = [*_types(element), *(_types(regions[-1]) if regions else ())]
        draft.add(
            TextLine(
                line,
                draft.text_of(reading, line),
                polygon,
                _points_of(element, "Baseline", least=2),
                region or None,
                tuple(dict.fromkeys(tags)),
            ),
            (rank, place, _LAST if index is None else index),
        )


def _points_of(element: Element, name: str, *, least: int) -> Place | None:
    """Return the points of ``points="x,y x,y"``, or of the ``Point`` elements of 2009 and 2010."""
    if (found := element.first(name)) is None:
        return None
    each = " ".join(f"{point.get('x')},{point.get('y')}" for point in found.named("Point"))
    return points(found.get("points") or each, least=least)


def _reading(element: Element) -> TranscribedText | None:
    """Return the text of a line or a word: of several texts the one with the lowest index.

    Of equal indexes the one with the higher confidence; of equal ones none.
    """
    texts = [
        (number(each.get("index")) or 0, -_confidence(each), text)
        for each in element.named("TextEquiv")
        if (text := _unicode(each))
    ]
    if not texts:
        return None
    index, doubt, text = min(texts, key=lambda each: each[:2])
    others = [each for each in texts if each[2] != text]
    is_tie = any(each[:2] == (index, doubt) for each in others)
    code = "readings_disagree" if is_tie else "several_readings" if others else ""
    return TranscribedText(text, -doubt, code)


def _confidence(text: Element) -> float:
    value = number(text.get("conf"))
    return 1.0 if value is None else value


def _unicode(text: Element) -> str:
    found = text.first("Unicode", "PlainText")
    return "" if found is None else found.text.strip()


def _custom(element: Element) -> Mapping[str, Mapping[str, str]]:
    """Parse ``custom`` of Transkribus and eScriptorium, by name; the last of each."""
    return {name: dict(_values(values)) for name, values in _CUSTOM.findall(element.get("custom"))}


def _values(text: str) -> list[tuple[str, str]]:
    pairs = (part.partition(":") for part in text.split(";") if ":" in part)
    return [(name.strip(), _unescaped(value.strip())) for name, _, value in pairs]


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)


def _types(element: Element) -> list[str]:
    """Return the kind of a line or region."""
    custom = [
        dict(_values(values)).get("type", "")
        for name, values in _CUSTOM.findall(element.get("custom"))
        if name == "structure"
    ]
    return [each for each in (*custom, element.get("type"), element.get("production")) if each]
