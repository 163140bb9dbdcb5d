"""Alphabets: the characters that a model may read.

The weights cover all scripts, and half of the computation is the output of 18,710 characters at
every step.
Measured: docs/decisions/0023-openvino-and-an-alphabet.md.
"""

import unicodedata

from app.engines.settings import AlphabetName

_BLOCKS = ((0x20, 0x7F), (0xA0, 0x100), (0x100, 0x180))
"""Basic Latin, Latin-1 Supplement and Latin Extended-A (Unicode, chapter 7): half-open."""
_ROMANIAN = "ȘșȚț"
"""With a comma below: the only characters of EU languages in Latin Extended-B."""
_SIGNS = "ſẞ‐‑–—―‘’‚‛“”„‟†‡•…‰′″‹›€™№ﬁﬂ"  # noqa: RUF001  intended
"""Typographic quotes, dashes and marks of running text."""


def is_allowed(character: str, alphabet: AlphabetName) -> bool:
    """Whether the alphabet contains a character, in any Unicode composition."""
    if alphabet == "all":
        return True
    composed = unicodedata.normalize("NFC", character)
    return all(_is_latin(each) for each in composed)


def _is_latin(character: str) -> bool:
    code = ord(character)
    in_block = any(first <= code < end for first, end in _BLOCKS)
    return in_block or character in _ROMANIAN or character in _SIGNS
