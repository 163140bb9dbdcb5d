"""Read the text layer of a page by PDFium; runs in the bounded child."""

import ctypes
import unicodedata
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pypdfium2
import pypdfium2.raw as pdfium

from services.segmenter.text_layer import DAMAGED, MOST_CHARACTERS, NO_TEXT, TextLayer

MOST_PARTS = 50_000
"""Objects of a page and segments of its paths; the text of one with more is not taken."""
_NO_PLACE = (-1, -1)
_MAY_COPY = 1 << 4
"""Bit 5 of the permissions (ISO 32000-1, table 22)."""
_UNSEEN_MODES = frozenset({3, 7})
"""Text render modes that draw nothing (ISO 32000-1, table 106)."""
_DAMAGED_CATEGORIES = frozenset({"Cc", "Cn", "Co", "Cs"})
_LIGATURES = range(0xFB00, 0xFB07)

_Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""


def read_layer(
    document: pypdfium2.PdfDocument, page: pypdfium2.PdfPage, size: tuple[int, int]
) -> TextLayer:
    """Read the text layer of a page that is rendered in this size.

    Empty where the document forbids to copy text, where there are too many characters or objects,
    and where PDFium can't read it: the picture of the page is worth more.
    """
    try:
        return _read(document, page, size)
    except pypdfium2.PdfiumError:
        return NO_TEXT


def _read(
    document: pypdfium2.PdfDocument, page: pypdfium2.PdfPage, size: tuple[int, int]
) -> TextLayer:
    if not pdfium.FPDF_GetDocPermissions(document) & _MAY_COPY:
        return NO_TEXT
    textpage = page.get_textpage()
    count = textpage.count_chars()
    if not 0 < count <= MOST_CHARACTERS:
        return NO_TEXT
    is_seen = _visibility(page, textpage)
    if is_seen is None:
        return NO_TEXT
    text, at, hidden = [], list[int](), 0
    for number in range(count):
        character = _character(textpage, number)
        place = _NO_PLACE
        if not character.isspace():
            if not is_seen(number):
                hidden += 1
                continue
            place = _place(page, textpage, number, size)
        text.append(character)
        at += place * len(character)
    return TextLayer("".join(text), at, hidden)


def _character(textpage: pypdfium2.PdfTextPage, number: int) -> str:
    """Return a character as it is written in annotations: ligatures are two or three."""
    if pdfium.FPDFText_IsHyphen(textpage, number) == 1:
        return "-"
    code = pdfium.FPDFText_GetUnicode(textpage, number)
    character = chr(code) if code <= 0x10FFFF else DAMAGED
    if character.isspace() or character == "\0":
        return " "
    is_unknown = pdfium.FPDFText_HasUnicodeMapError(textpage, number) == 1
    if is_unknown or unicodedata.category(character) in _DAMAGED_CATEGORIES:
        return DAMAGED
    return unicodedata.normalize("NFKC", character) if code in _LIGATURES else character


def _place(
    page: pypdfium2.PdfPage, textpage: pypdfium2.PdfTextPage, number: int, size: tuple[int, int]
) -> tuple[int, int]:
    """Return the pixel in the middle of a character."""
    left, bottom, right, top = textpage.get_charbox(number)
    x, y = ctypes.c_int(), ctypes.c_int()
    middle = (left + right) / 2, (bottom + top) / 2
    pdfium.FPDF_PageToDevice(page, 0, 0, *size, 0, *middle, x, y)
    return x.value, y.value


def _visibility(
    page: pypdfium2.PdfPage, textpage: pypdfium2.PdfTextPage
) -> Callable[[int], bool] | None:
    """Return a function that says whether a character is drawn, opaque, and not covered.

    None: the page has too many objects to tell.
    """
    objects = list(islice(page.get_objects(), MOST_PARTS + 1))
    paths = [each for each in objects if each.type == pdfium.FPDF_PAGEOBJ_PATH]
    if len(objects) + sum(map(pdfium.FPDFPath_CountSegments, paths)) > MOST_PARTS:
        return None
    orders = {_address(each.raw): order for order, each in enumerate(objects)}
    covers = [(order, *box) for order, each in enumerate(objects) for box in _covered(each)]
    above, left_of, below, right_of, top_of = np.reshape(covers, (-1, 5)).T

    def is_seen(number: int) -> bool:
        drawn = pdfium.FPDFText_GetTextObject(textpage, number)
        if not drawn:
            return True  # a character that PDFium adds
        if pdfium.FPDFTextObj_GetTextRenderMode(drawn) in _UNSEEN_MODES:
            return False
        if _is_clear(pdfium.FPDFText_GetFillColor, textpage, number):
            return False
        left, bottom, right, top = textpage.get_charbox(number)
        x, y, order = (left + right) / 2, (bottom + top) / 2, orders.get(_address(drawn), -1)
        is_within = (left_of <= x) & (x <= right_of) & (below <= y) & (y <= top_of)
        return not bool(np.any(is_within & (above > order)))

    return is_seen


def _covered(each: pypdfium2.PdfObject) -> Iterator[_Box]:
    """Yield the boxes of the page that an object may cover: images, shadings and filled paths."""
    boxes = list[_Box]()
    if each.type in {pdfium.FPDF_PAGEOBJ_IMAGE, pdfium.FPDF_PAGEOBJ_SHADING}:
        boxes = [each.get_bounds()]
    elif each.type == pdfium.FPDF_PAGEOBJ_PATH and _is_filled(each):
        boxes = _boxes_of_path(each)
    for box in boxes:
        placed, form = box, each.container
        while form is not None:
            placed, form = form.get_matrix().on_rect(*placed), form.container
        yield placed


def _is_filled(path: pypdfium2.PdfObject) -> bool:
    mode, stroke = ctypes.c_int(), ctypes.c_int()
    pdfium.FPDFPath_GetDrawMode(path, mode, stroke)
    is_clear = _is_clear(pdfium.FPDFPageObj_GetFillColor, path)
    return mode.value != pdfium.FPDF_FILLMODE_NONE and not is_clear


def _boxes_of_path(path: pypdfium2.PdfObject) -> list[_Box]:
    """Return the box of each part of a path: one path may draw all rules of a page."""
    matrix, parts = path.get_matrix(), list[list[tuple[float, float]]]()
    x, y = ctypes.c_float(), ctypes.c_float()
    for number in range(pdfium.FPDFPath_CountSegments(path)):
        segment = pdfium.FPDFPath_GetPathSegment(path, number)
        if pdfium.FPDFPathSegment_GetType(segment) == pdfium.FPDF_SEGMENT_MOVETO or not parts:
            parts.append([])
        pdfium.FPDFPathSegment_GetPoint(segment, x, y)
        parts[-1].append(matrix.on_point(x.value, y.value))
    sides = [tuple(zip(*part, strict=True)) for part in parts]
    return [(min(xs), min(ys), max(xs), max(ys)) for xs, ys in sides]


def _is_clear(get_color: Callable[..., int], *asked: Any) -> bool:
    """Return whether the alpha of a colour is known to be 0."""
    *others, alpha = (ctypes.c_uint() for _ in range(4))
    return bool(get_color(*asked, *others, alpha)) and alpha.value == 0


def _address(pointer: Any) -> int | None:
    return ctypes.cast(pointer, ctypes.c_void_p).value
