"""Stream the lines of a text file of any size in a detected encoding.

The detected encoding is reported. A single damaged row of a UTF-8 file does not change the encoding
of all others.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from typing import IO

MAX_LINE_LENGTH = 32_768
"""Characters; longer lines are rejected."""

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
"""Bytes kept by Python's error handler ``surrogateescape``."""


class UnknownEncodingError(ValueError):
    """The name is not a text encoding."""


@dataclass(frozen=True, slots=True)
class FileLine:
    """One line, with its end."""

    number: int
    """From 1."""
    text: str
    is_whole: bool = True
    """False if it was truncated to ``MAX_LINE_LENGTH`` characters."""

    @property
    def undecodable(self) -> str | None:
        """The first byte that is invalid in the file's encoding, as ``0xE9``; None: none."""
        found = _UNDECODABLE.search(self.text)
        return f"0x{ord(found[0]) - 0xDC00:02X}" if found else None


def detect_encoding(file: IO[bytes], declared: str | None = None) -> str:
    """Detect the encoding of a file and rewind it.

    In this order: byte order mark, ``declared``, UTF-8 if it is valid (or valid in most rows with
    accents), Windows-1252, Latin-1 if bytes are undefined in that.

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


def open_lines(
    file: IO[bytes], encoding: str, *, only_line_feeds: bool = False
) -> Iterator[FileLine]:
    """Yield the lines of a file, too long ones truncated.

    Invalid bytes stay in the text, see ``FileLine.undecodable``.

    Args:
        file: Stays open.
        encoding: From ``detect_encoding``.
        only_line_feeds: Whether a carriage return alone does not end a line, as in JSON lines.
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


def _bounded(text: IO[str], *, replaced: str | None) -> Iterator[FileLine]:
    """Yield lines; ``replaced`` is the decoder's substitute for invalid bytes."""
    number = 0
    while line := text.readline(MAX_LINE_LENGTH):
        number += 1
        is_whole = _ends(line)
        if replaced is not None and replaced in line:
            line = line.replace(replaced, _LOST_BYTE)
        yield FileLine(number, line, is_whole)
        while not is_whole:
            is_whole = _ends(text.readline(MAX_LINE_LENGTH))


def _ends(text: str) -> bool:
    return len(text) < MAX_LINE_LENGTH or text.endswith("\n")


def _unmarked_utf16(file: IO[bytes]) -> str | None:
    """Detect UTF-16 without byte order mark by its null bytes."""
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
        raise UnknownEncodingError(f"unknown encoding {declared[:50]!r}") from error
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
    """Return whether more non-ASCII lines are valid UTF-8 than invalid."""
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
