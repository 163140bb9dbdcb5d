"""Read the text layer of a page by PDFium; runs in the bounded child."""

import ctypes
import unicodedata
from collections.abc import Callable
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

from services.segmenter.text_layer import DAMAGED, MOST_CHARACTERS, NO_TEXT, TextLayer

_NO_PLACE = (-1, -1)
_MAY_COPY = 1 << 4
"""Bit 5 of the permissions (ISO 32000-1, table 22)."""
_UNSEEN_MODES = frozenset({3, 7})
"""Text render modes that draw nothing (ISO 32000-1, table 106)."""
_DAMAGED_CATEGORIES = frozenset({"Cc", "Cn", "Co", "Cs"})
_LIGATURES = range(0xFB00, 0xFB07)


def read_layer(
    document: pypdfium2.PdfDocument, page: pypdfium2.PdfPage, size: tuple[int, int]
) -> TextLayer:
    """Read the text layer of a page that is rendered in this size.

    Empty where the document forbids to copy text, and where there are too many characters.
    """
    if not pdfium.FPDF_GetDocPermissions(document) & _MAY_COPY:
        return NO_TEXT
    textpage = page.get_textpage()
    count = textpage.count_chars()
    if not 0 < count <= MOST_CHARACTERS:
        return NO_TEXT
    is_seen = _visibility(page, textpage)
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


def _visibility(page: pypdfium2.PdfPage, textpage: pypdfium2.PdfTextPage) -> Callable[[int], bool]:
    """Return a function that says whether a character is drawn, opaque, and below no image."""
    objects = list(page.get_objects())
    orders = {_address(each.raw): order for order, each in enumerate(objects)}
    images = [
        (order, each.get_bounds())
        for order, each in enumerate(objects)
        if each.type == pdfium.FPDF_PAGEOBJ_IMAGE
    ]
    alpha = ctypes.c_uint(255)
    others = [ctypes.c_uint() for _ in range(3)]

    def is_seen(number: int) -> bool:
        drawn = pdfium.FPDFText_GetTextObject(textpage, number)
        if not drawn:
            return True  # a character that PDFium adds
        if pdfium.FPDFTextObj_GetTextRenderMode(drawn) in _UNSEEN_MODES:
            return False
        known = pdfium.FPDFText_GetFillColor(textpage, number, *others, alpha)
        if known and alpha.value == 0:
            return False
        left, bottom, right, top = textpage.get_charbox(number)
        x, y, order = (left + right) / 2, (bottom + top) / 2, orders.get(_address(drawn), -1)
        return not any(
            order < above and left_of <= x <= right_of and below <= y <= top_of
            for above, (left_of, below, right_of, top_of) in images
        )

    return is_seen


def _address(pointer: Any) -> int | None:
    return ctypes.cast(pointer, ctypes.c_void_p).value
