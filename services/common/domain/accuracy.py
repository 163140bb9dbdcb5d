"""Character and word error counts of a hypothesis against a reference."""

from itertools import groupby, zip_longest
from typing import NamedTuple

import jiwer

from services.common.domain.annotations import collapse


class CharacterErrors(NamedTuple):
    """Counts to sum over images for a character error rate."""

    errors: int
    """Characters to substitute, delete and insert (Levenshtein)."""
    characters: int
    """Length of the reference; 0 if there is none."""


def character_errors(*, reference: str | None, hypothesis: str) -> CharacterErrors:
    """Return edits and length; (0, 0) without a reference."""
    if not reference:
        return CharacterErrors(0, 0)
    compared = jiwer.process_characters(reference, hypothesis)
    errors = compared.substitutions + compared.deletions + compared.insertions
    return CharacterErrors(errors, len(reference))


def accuracy(errors: int, reference: str) -> float:
    """Return the share of right characters: 1 - errors / length of the reference, at least 0."""
    return max(0.0, 1 - errors / len(reference))


class Confusion(NamedTuple):
    """One edit that a reading needs; one of both characters may be empty."""

    reference: str
    hypothesis: str

    @property
    def words(self) -> str:
        """Displayed form: ``é→e``; ``é→`` was not read, ``→␣`` is a superfluous space."""
        return "→".join(each.replace(" ", "␣") for each in self)


def confusions(*, reference: str, hypothesis: str) -> list[Confusion]:
    """Return the edits of a shortest alignment, as many as ``character_errors`` counts.

    Of edits beside each other, characters are paired from the left.
    """
    chunks = jiwer.process_characters(reference, hypothesis).alignments[0] if reference else ()
    found: list[Confusion] = []
    for is_equal, block in groupby(chunks, key=lambda each: each.type == "equal"):
        if not is_equal:
            parts = [*block]
            expected = reference[parts[0].ref_start_idx : parts[-1].ref_end_idx]
            read = hypothesis[parts[0].hyp_start_idx : parts[-1].hyp_end_idx]
            found += [Confusion(*pair) for pair in zip_longest(expected, read, fillvalue="")]
    return found


def similarity(one: str, other: str) -> float:
    """Return the similarity: 1 - edits / length of the longer text."""
    if not one or not other:
        return float(one == other)
    return 1 - character_errors(reference=one, hypothesis=other).errors / max(len(one), len(other))


class WordErrors(NamedTuple):
    """Counts to sum over images for a word error rate."""

    errors: int
    """Words to substitute, delete and insert."""
    words: int
    """Words of the reference."""


def word_errors(*, reference: str, hypothesis: str) -> WordErrors:
    """Return edits and number of words, separated by spaces."""
    compared = jiwer.process_words(reference, hypothesis)
    errors = compared.substitutions + compared.deletions + compared.insertions
    return WordErrors(errors, len(reference.split()))


class Hypothesis(NamedTuple):
    """Normalised text of a prediction."""

    text: str
    errors: int
    """Wrong, missing and superfluous characters."""


def hypothesis_of(text: str, *, reference: str) -> Hypothesis:
    """Normalise a predicted text and compare it with a reference."""
    collapsed = collapse(text)
    errors = character_errors(reference=reference, hypothesis=collapsed).errors
    return Hypothesis(collapsed, errors)
