"""Read the lines of a text file of any size, one at a time, in whatever encoding it is.

A text file of people rarely says its encoding. What is found is reported, and a single damaged row
of a UTF-8 file is a damaged row, not a reason to read all others by another code page.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from typing import IO

MAX_LINE_LENGTH = 32_768
"""Characters; a longer line is no row of any list."""

UTF8 = "utf-8-sig"
_LEGACY = "cp1252"
"""The superset of Latin-1 that spreadsheets on Windows write."""
_LAST_RESORT = "latin-1"
_REPLACEMENT, _LOST_BYTE = "\ufffd", "\udcfd"
_BLOCK_BYTES = 1024 * 1024
_SAMPLE_BYTES = 4096
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, UTF8),
)
_UNDECODABLE = re.compile("[\udc80-\udcff]")
"""Bytes that Python's error handler ``surrogateescape`` kept."""


class UnknownEncodingError(ValueError):
    """The name is not one of an encoding of text."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line, with its end."""

    number: int
    """From 1."""
    text: str
    is_whole: bool = True
    """False where only its first ``MAX_LINE_LENGTH`` characters are here."""

    @property
    def undecodable(self) -> str | None:
        """The first byte that is not valid in the file's encoding, as ``0xE9``; None: all are."""
        found = _UNDECODABLE.search(self.text)
        return f"0x{ord(found[0]) - 0xDC00:02X}" if found else None


def detect_encoding(file: IO[bytes], declared: str | None = None) -> str:
    """Return the encoding of a whole file, which is left at its beginning.

    Its byte order mark says so, else whoever sent it (``declared``). Without both it is UTF-8 where
    that is valid, or is in more rows with accents than it is not; else Windows-1252, or Latin-1
    where bytes have no meaning in that.

    Raises:
        UnknownEncodingError: There is no encoding of the declared name.
    """
    start = file.read(4)
    file.seek(0)
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    if declared:
        return _checked(declared)
    if unmarked := _unmarked_utf16(file):
        return unmarked
    if _decodes(file, UTF8) or _is_damaged_utf8(file):
        return UTF8
    return _LEGACY if _decodes(file, _LEGACY) else _LAST_RESORT


def open_lines(file: IO[bytes], encoding: str, *, only_line_feeds: bool = False) -> Iterator[Line]:
    """Yield the lines of a file from its beginning; of a line that is too long only the beginning.

    Bytes that are not valid stay in the text, as ``Line.undecodable`` tells.

    Args:
        file: Stays open.
        encoding: Of ``detect_encoding``.
        only_line_feeds: Whether a carriage return alone ends no line, as in JSON lines.
    """
    # UTF-16 and UTF-32 have no error handler that keeps their bytes
    is_wide = encoding.startswith(("utf-16", "utf-32"))
    errors = "replace" if is_wide else "surrogateescape"
    file.seek(0)
    newline = "\n" if only_line_feeds else None
    text = TextIOWrapper(file, encoding=encoding, errors=errors, newline=newline)
    try:
        yield from _bounded(text, replaced=_REPLACEMENT if is_wide else None)
    finally:
        text.detach()


def _bounded(text: IO[str], *, replaced: str | None) -> Iterator[Line]:
    """Yield lines; ``replaced`` is what a decoder left in place of bytes that are not valid."""
    number = 0
    while line := text.readline(MAX_LINE_LENGTH):
        number += 1
        is_whole = _ends(line)
        if replaced is not None and replaced in line:
            line = line.replace(replaced, _LOST_BYTE)
        yield Line(number, line, is_whole)
        while not is_whole:
            is_whole = _ends(text.readline(MAX_LINE_LENGTH))


def _ends(text: str) -> bool:
    return len(text) < MAX_LINE_LENGTH or text.endswith("\n")


def _unmarked_utf16(file: IO[bytes]) -> str | None:
    """Return the encoding of UTF-16 that has no byte order mark, which every other byte shows."""
    start = file.read(_SAMPLE_BYTES)
    file.seek(0)
    even, odd = start[::2], start[1::2]
    for zeros, others, encoding in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        if zeros.count(0) * 2 > len(zeros) > 1 and not others.count(0):
            return encoding
    return None


def _checked(declared: str) -> str:
    name = declared.strip().strip("\"'")
    try:
        b"a".decode(
            name, "surrogateescape" if "16" not in name and "32" not in name else "replace"
        )  # refuses those of bytes to bytes, such as base64
        found = codecs.lookup(name).name
    except (LookupError, ValueError) as error:
        raise UnknownEncodingError(f"there is no encoding named {declared[:50]!r}") from error
    return UTF8 if found in {"utf-8", "ascii"} else found


def _decodes(file: IO[bytes], encoding: str) -> bool:
    """Return whether the whole file is valid in an encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        while block := file.read(_BLOCK_BYTES):
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    finally:
        file.seek(0)
    return True


def _is_damaged_utf8(file: IO[bytes]) -> bool:
    """Return whether more lines prove a file to be UTF-8 than speak against it."""
    good = bad = 0
    while line := file.readline(_BLOCK_BYTES):
        if line.isascii():
            continue
        try:
            line.decode()
            good += 1
        except UnicodeDecodeError:
            bad += 1
    file.seek(0)
    return good > bad
