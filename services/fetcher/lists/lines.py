"""Lines of a text file of any size, in memory one at a time."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

MAX_LINE_LENGTH = 32_768
"""Characters; a longer line is no row of any list."""

_ENCODINGS = ("utf-8-sig", "cp1252")
_LAST_RESORT = "latin-1"
_BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """One line, with its end."""

    number: int
    """From 1."""
    text: str
    is_whole: bool = True
    """False where only its first ``MAX_LINE_LENGTH`` characters are here."""


def detect_encoding(file: IO[bytes]) -> str:
    """Return the encoding of a whole file, which is left at its beginning.

    UTF-16 with its mark, UTF-8 with or without, else Windows-1252: the superset of Latin-1 that
    spreadsheets write, and Latin-1 itself where bytes have no meaning in it.
    """
    mark = file.read(2)
    file.seek(0)
    if mark in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
        return "utf-16"
    for encoding in _ENCODINGS:
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            while block := file.read(_BLOCK_BYTES):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        else:
            return encoding
        finally:
            file.seek(0)
    return _LAST_RESORT


def bounded_lines(file: IO[str]) -> Iterator[Line]:
    """Yield the lines of a file; of a line that is too long only the beginning."""
    number = 0
    while text := file.readline(MAX_LINE_LENGTH):
        number += 1
        is_whole = _ends(text)
        yield Line(number, text, is_whole)
        while not is_whole:
            is_whole = _ends(file.readline(MAX_LINE_LENGTH))


def _ends(text: str) -> bool:
    return len(text) < MAX_LINE_LENGTH or text.endswith("\n")
