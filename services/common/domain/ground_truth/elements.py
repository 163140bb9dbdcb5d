"""Read an untrusted XML file element by element, in memory that does not grow with its length.

Document types, and with them entities, are refused: no transcription needs one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from xml.parsers import expat

from services.common.domain.errors import PermanentError

MAX_BYTES = 32 * 1024 * 1024
MAX_DEPTH = 64
MAX_INNER_ELEMENTS = 50_000
"""Limit of elements in a subtree; a line has a few hundred."""
MAX_TEXT_LENGTH = 100_000
_NAMESPACE_END = " "


class GroundTruthError(PermanentError):
    """The file is not a valid transcription.

    Args:
        code: ``no_ground_truth``, ``damaged_xml``, ``forbidden_xml``, ``xml_too_large``,
            ``several_pages``, ``page_size_unknown``, ``page_size_differs``, ``page_turned``,
            ``not_an_image``, ``unreadable_member``, ``too_large``.
        detail: For the person who sent it.
    """

    code = "no_ground_truth"

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(slots=True)
class Element:
    """An element with attributes and, if it is read as a whole, children."""

    name: str
    """Without its namespace."""
    attributes: Mapping[str, str]
    children: list["Element"] = field(default_factory=list)
    text: str = ""

    def get(self, name: str) -> str:
        """Return an attribute, or an empty text."""
        return self.attributes.get(name, "")

    def named(self, *names: str) -> Iterator["Element"]:
        """Yield the children of these names, in their order."""
        return (child for child in self.children if child.name in names)

    def first(self, *names: str) -> "Element | None":
        """Return the first child of these names, or None."""
        return next(self.named(*names), None)


Handler = Callable[[Element, Sequence[Element]], None]
"""Called with an element and its ancestors, outermost first."""


@dataclass(frozen=True)
class Dialect:
    """Handlers of the elements of a dialect.

    Args:
        began: By name, called at the start of each element, with its attributes.
        whole: By name, called at the end of each element, with its subtree; not nested. Other
            elements are dropped.
    """

    began: Mapping[str, Handler]
    whole: Mapping[str, Handler]


class _Walk:
    def __init__(self, dialects: Mapping[str, Dialect]) -> None:
        self.root = ""
        self._dialects = dialects
        self._dialect = Dialect({}, {})
        self._open: list[Element] = []
        self._kept_at = 0
        """Depth of the current subtree; 0: none."""
        self._inner = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        element = Element(_local(name), {_local(key): attributes[key] for key in attributes})
        if not self._open:
            if element.name not in self._dialects:
                detail = f"its outermost element is {element.name[:100]!r}"
                raise GroundTruthError("no_ground_truth", detail)
            self.root, self._dialect = element.name, self._dialects[element.name]
        if len(self._open) >= MAX_DEPTH:
            raise GroundTruthError("xml_too_large", f"elements are nested deeper than {MAX_DEPTH}")
        if handle := self._dialect.began.get(element.name):
            handle(element, self._open)
        if self._kept_at:
            self._inner += 1
            if self._inner > MAX_INNER_ELEMENTS:
                detail = f"a line has more than {MAX_INNER_ELEMENTS} elements"
                raise GroundTruthError("xml_too_large", detail)
            self._open[-1].children.append(element)
        self._open.append(element)
        if not self._kept_at and element.name in self._dialect.whole:
            self._kept_at, self._inner = len(self._open), 0

    def end(self, _: str) -> None:
        element = self._open.pop()
        if self._kept_at == len(self._open) + 1:
            self._kept_at = 0
            self._dialect.whole[element.name](element, self._open)

    def text(self, text: str) -> None:
        if self._kept_at:
            element = self._open[-1]
            element.text += text
            if len(element.text) > MAX_TEXT_LENGTH:
                detail = f"a text has more than {MAX_TEXT_LENGTH} characters"
                raise GroundTruthError("xml_too_large", detail)


def walk(content: bytes, dialects: Mapping[str, Dialect]) -> str:
    """Read a file in the dialect of its outermost element; return that element's name.

    Raises:
        GroundTruthError: Its dialect is unknown, it is corrupt, too large, or has a document type;
            also raised by handlers.
    """
    if len(content) > MAX_BYTES:
        raise GroundTruthError("xml_too_large", f"it has more than {MAX_BYTES} bytes")
    parser = expat.ParserCreate(namespace_separator=_NAMESPACE_END)
    parser.buffer_text = True
    state = _Walk(dialects)
    parser.StartElementHandler = state.start
    parser.EndElementHandler = state.end
    parser.CharacterDataHandler = state.text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise GroundTruthError("damaged_xml", f"not well-formed XML: {error}") from error
    except (ValueError, LookupError) as error:  # an encoding that Python lacks
        raise GroundTruthError("damaged_xml", f"unsupported encoding: {error}"[:300]) from error
    return state.root


def _refuse_doctype(*_: object) -> None:
    raise GroundTruthError("forbidden_xml", "document types (DOCTYPE) are not allowed: remove it")


def _local(name: str) -> str:
    return name.rpartition(_NAMESPACE_END)[2]
