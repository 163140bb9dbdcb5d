"""How much of a text was read right, against what a person says is right."""

from typing import NamedTuple

import jiwer


class CharacterErrors(NamedTuple):
    """Counts whose sums over many images give their character error rate."""

    errors: int
    """Characters to substitute, delete and insert (Levenshtein)."""
    characters: int
    """Length of the right text; 0 where there is none."""


def character_errors(*, right: str | None, read: str) -> CharacterErrors:
    """Return edits and length; (0, 0) where nobody says what is right."""
    if not right:
        return CharacterErrors(0, 0)
    compared = jiwer.process_characters(right, read)
    errors = compared.substitutions + compared.deletions + compared.insertions
    return CharacterErrors(errors, len(right))


def similarity(one: str, other: str) -> float:
    """Return 1 less the edits between two texts over the length of the longer one."""
    if not one or not other:
        return float(one == other)
    return 1 - character_errors(right=one, read=other).errors / max(len(one), len(other))


class WordErrors(NamedTuple):
    """Counts whose sums over many images give their word error rate."""

    errors: int
    """Words to substitute, delete and insert."""
    words: int
    """Words of the right text."""


def word_errors(*, right: str, read: str) -> WordErrors:
    """Return edits and number of words; words are what spaces are between."""
    compared = jiwer.process_words(right, read)
    errors = compared.substitutions + compared.deletions + compared.insertions
    return WordErrors(errors, len(right.split()))
