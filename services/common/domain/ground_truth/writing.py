"""Write the transcription of a page as PAGE XML 2019 or ALTO 4.2."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from xml.etree import ElementTree as ET

from services.common.domain.ground_truth.transcript import Place, TextLine, Transcript

_ALTO = "http://www.loc.gov/standards/alto/ns-v4#"
_PAGE = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPECIAL = re.compile(r"[;:{}\\\s]")
"""Special characters in ``custom``."""
_DEFAULT_REGION = "page"
CREATOR = "docreco"


def to_alto(transcript: Transcript) -> bytes:
    """Return a transcript as ALTO; units are pixels."""
    root = ET.Element("alto", {"xmlns": _ALTO})
    description = ET.SubElement(root, "Description")
    ET.SubElement(description, "MeasurementUnit").text = "pixel"
    image = ET.SubElement(description, "sourceImageInformation")
    ET.SubElement(image, "fileName").text = _clean(transcript.image)
    names = list(dict.fromkeys(tag for line in transcript.lines for tag in line.tags))
    tags = {name: f"tag-{number}" for number, name in enumerate(names, start=1)}
    if tags:
        listed = ET.SubElement(root, "Tags")
        for name, tag in tags.items():
            ET.SubElement(listed, "OtherTag", {"ID": tag, "LABEL": _clean(name)})
    size = {"WIDTH": _written(transcript.width), "HEIGHT": _written(transcript.height)}
    page = ET.SubElement(
        ET.SubElement(root, "Layout"), "Page", {"ID": "page-1", "PHYSICAL_IMG_NR": "1", **size}
    )
    space = ET.SubElement(page, "PrintSpace", {"HPOS": "0", "VPOS": "0", **size})
    for region, lines in _by_region(transcript.lines).items():
        box = _alto_box([value for line in lines for value in line.polygon])
        block = ET.SubElement(space, "TextBlock", {"ID": region, **box})
        for line in lines:
            _add_alto_line(block, line, tags)
    return _bytes(root)


def to_page(transcript: Transcript, at: datetime) -> bytes:
    """Return a transcript as PAGE XML; ``at``: its creation time."""
    root = ET.Element("PcGts", {"xmlns": _PAGE})
    metadata = ET.SubElement(root, "Metadata")
    ET.SubElement(metadata, "Creator").text = CREATOR
    for name in ("Created", "LastChange"):
        ET.SubElement(metadata, name).text = at.strftime("%Y-%m-%dT%H:%M:%S")
    size = {"imageWidth": _written(transcript.width), "imageHeight": _written(transcript.height)}
    page = ET.SubElement(root, "Page", {"imageFilename": _clean(transcript.image), **size})
    regions = _by_region(transcript.lines)
    if regions:
        group = ET.SubElement(ET.SubElement(page, "ReadingOrder"), "OrderedGroup", {"id": "order"})
        for index, region in enumerate(regions):
            reference = {"index": str(index), "regionRef": region}
            ET.SubElement(group, "RegionRefIndexed", reference)
    for region, lines in regions.items():
        block = ET.SubElement(page, "TextRegion", {"id": region})
        corners = _corners([value for line in lines for value in line.polygon])
        ET.SubElement(block, "Coords", {"points": _pairs(corners)})
        for index, line in enumerate(lines):
            _add_page_line(block, line, index)
    return _bytes(root)


def _add_alto_line(block: ET.Element, line: TextLine, tags: Mapping[str, str]) -> None:
    box = _alto_box(line.polygon)
    attributes = {"ID": _clean(line.id), **box}
    if line.tags:
        attributes["TAGREFS"] = " ".join(tags[tag] for tag in line.tags)
    if line.baseline:
        attributes["BASELINE"] = _spaced(line.baseline)
    element = ET.SubElement(block, "TextLine", attributes)
    ET.SubElement(ET.SubElement(element, "Shape"), "Polygon", {"POINTS": _spaced(line.polygon)})
    if line.text:
        ET.SubElement(element, "String", {"CONTENT": _clean(line.text), **box})


def _add_page_line(block: ET.Element, line: TextLine, index: int) -> None:
    kinds = "".join(f" structure {{type:{_escaped(tag)};}}" for tag in line.tags)
    custom = f"readingOrder {{index:{index};}}{kinds}"
    element = ET.SubElement(block, "TextLine", {"id": _clean(line.id), "custom": custom})
    ET.SubElement(element, "Coords", {"points": _pairs(line.polygon)})
    if line.baseline:
        ET.SubElement(element, "Baseline", {"points": _pairs(line.baseline)})
    if line.text:
        text = ET.SubElement(element, "TextEquiv")
        ET.SubElement(text, "Unicode").text = _clean(line.text)


def _by_region(lines: Iterable[TextLine]) -> dict[str, list[TextLine]]:
    regions: dict[str, list[TextLine]] = {}
    for line in lines:
        regions.setdefault(_clean(line.region or _DEFAULT_REGION), []).append(line)
    return regions


def _corners(place: Iterable[float]) -> Place:
    values = list(place)
    left, top, right, bottom = (
        min(values[::2]),
        min(values[1::2]),
        max(values[::2]),
        max(values[1::2]),
    )
    return (left, top, right, top, right, bottom, left, bottom)


def _alto_box(place: Iterable[float]) -> dict[str, str]:
    left, top, right, _, _, bottom, _, _ = _corners(place)
    sides = {"HPOS": left, "VPOS": top, "WIDTH": right - left, "HEIGHT": bottom - top}
    return {name: _written(value) for name, value in sides.items()}


def _spaced(place: Place) -> str:
    return " ".join(map(_written, place))


def _pairs(place: Place) -> str:
    each = list(map(_written, place))
    return " ".join(f"{x},{y}" for x, y in zip(each[::2], each[1::2], strict=True))


def _written(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _clean(text: str) -> str:
    """Return a text with U+FFFD for characters that XML does not allow."""
    return _NO_XML.sub("\ufffd", text)


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda found: f"\\u{ord(found[0]):04x}", _clean(text))


def _bytes(root: ET.Element) -> bytes:
    ET.indent(root)
    content: bytes = ET.tostring(root, "utf-8", xml_declaration=True)
    return content + b"\n"
