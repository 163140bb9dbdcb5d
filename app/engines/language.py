"""Read a line as what is likely both by its image and by the texts that a model was trained on.

Docs: docs/decisions/0045-character-language-model.md.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from app.engines.base import EngineReading
from app.engines.lines import Probabilities
from app.engines.weights import LANGUAGE_FILE, damaged

END = "\n"
"""Before the first and after the last character of a line."""
_CONTEXT = 5
"""Characters that a character is predicted from, at most."""
_MOST = 2**53
"""Limit of a count: larger ones can't be divided by exactly, or at all."""
_PRIVATE = 4
"""From this length on a context has only what followed it twice or more. Shorter ones have all, so
short or rare texts can be read from the file."""
_WEIGHT, _BONUS = 0.4, 1.5
"""Exponent of the language model's probabilities, and a factor of each character, as these would
favour short texts."""
_UNKNOWN = 1e-4
"""Probability of a character that no text has."""
_BEAM, _CANDIDATES = 6, 4
"""Texts that are followed, and characters by which each may go on in a step."""
_LEAST = 1e-3
"""Probability by which a character is considered in a step."""
_LEAST_SHARE = 1e-3
"""Probability of a text that is followed, as a share of the best one's."""

Counts = Mapping[str, Mapping[str, int]]
"""By context and the character after it."""


_Path = tuple[float, float, float, float]
"""Of a text: probability with a blank at the end, and with its last character; the sum of the
probabilities of the characters before the last one, and that one's."""


class LanguageModel:
    """A model of characters by those before them (Witten and Bell, IEEE Trans. Inf. Theory 1991).

    Args:
        counts: From ``count``.
    """

    def __init__(self, counts: Counts) -> None:
        self.counts = counts
        probabilities: dict[str, dict[str, float]] = {}
        shares: dict[str, float] = {}
        for context in sorted(counts, key=len):
            after = counts[context]
            total, kinds = sum(after.values()), len(after)
            lower = probabilities.get(context[1:], {}) if context else {}
            probabilities[context] = {
                each: (number + kinds * lower.get(each, 1 / kinds)) / (total + kinds)
                for each, number in after.items()
            }
            shares[context] = kinds / (total + kinds)
        self._shorter = {context: math.pow(share, _WEIGHT) for context, share in shares.items()}
        """By context the factor of characters that are known of a shorter one only."""
        self._factors = {
            context: {each: _BONUS * math.pow(number, _WEIGHT) for each, number in after.items()}
            for context, after in probabilities.items()
        }

    def factor(self, text: str, character: str) -> float:
        """Return the factor of the probability that a character follows a text."""
        context, factor = text[-_CONTEXT:], 1.0
        while True:
            known = self._factors.get(context)
            if known is not None:
                if character in known:
                    return factor * known[character]
                factor *= self._shorter[context]
            if not context:
                return factor * _BONUS * math.pow(_UNKNOWN, _WEIGHT)
            context = context[1:]


def count(texts: Iterable[str]) -> Counts:
    """Count which characters follow which."""
    counts: dict[str, Counter[str]] = {}
    for text in texts:
        line = f"{END}{text}{END}"
        for place in range(1, len(line)):
            for start in range(max(0, place - _CONTEXT), place + 1):
                counts.setdefault(line[start:place], Counter())[line[place]] += 1
    kept = {
        context: {each: number for each, number in after.items() if number > 1}
        if len(context) >= _PRIVATE
        else dict(after)
        for context, after in counts.items()
    }
    return {context: after for context, after in kept.items() if after}


def write_language(folder: Path, language: LanguageModel) -> None:
    """Write it into the folder of a model."""
    (folder / LANGUAGE_FILE).write_bytes(to_bytes(language))


def to_bytes(language: LanguageModel) -> bytes:
    """Return the content of its file."""
    return json.dumps(language.counts, ensure_ascii=False, sort_keys=True).encode()


def parse_language(contents: Mapping[str, bytes], *, folder: Path) -> LanguageModel | None:
    """Return the language of a model's files that have been read from a folder, if it has one.

    Raises:
        UnexpectedModelError: The file is damaged.
    """
    if (found := contents.get(LANGUAGE_FILE)) is None:
        return None
    path = folder / LANGUAGE_FILE
    try:
        counts = json.loads(found)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"it is no JSON ({type(error).__name__})") from error
    if not isinstance(counts, dict):
        raise damaged(path, "it is no object")
    for context, after in counts.items():
        if len(context) > _CONTEXT or not isinstance(after, dict) or not after:
            raise damaged(path, f"the entry {context[:_CONTEXT]!r} is none of characters")
        if not all(len(each) == 1 and _is_count(number) for each, number in after.items()):
            raise damaged(path, f"the entry {context!r} has other than counts of characters")
    return LanguageModel(counts)


def _is_count(number: object) -> bool:
    return type(number) is int and 0 < number <= _MOST  # true is no number


def search(
    probabilities: Probabilities, characters: Sequence[str], language: LanguageModel
) -> EngineReading:
    """Decode by prefix beam search (Hannun et al., arXiv:1408.2873).

    The score is the mean probability of the characters, by the image, times the share of the text
    among those that were followed to the end.

    Args:
        probabilities: Of one line.
        characters: By class; class 0 is the blank.
        language: Of the texts to expect.
    """
    beam: dict[str, _Path] = {END: (1.0, 0.0, 0.0, 0.0)}
    steps, classes = np.nonzero(probabilities > _LEAST)
    values = probabilities[steps, classes].tolist()
    ends = np.searchsorted(steps, np.arange(1, len(probabilities) + 1)).tolist()
    start, found = 0, classes.tolist()
    for blank, end in zip(probabilities[:, 0].tolist(), ends, strict=True):
        step = sorted(zip(values[start:end], found[start:end], strict=True), reverse=True)
        likely = {characters[number]: value for value, number in step if number}
        beam = _go_on(beam, blank, dict([*likely.items()][:_CANDIDATES]), language)
        start = end
    final = {
        text: (closed + open_) * language.factor(text, END)
        for text, (closed, open_, _, _) in beam.items()
    }
    text = max(final, key=final.__getitem__)
    if text == END:
        return EngineReading("", 0.0)
    mean = (beam[text][2] + beam[text][3]) / (len(text) - 1)
    return EngineReading(text[1:], mean * final[text] / sum(final.values()))


def _go_on(
    beam: Mapping[str, _Path], blank: float, likely: Mapping[str, float], language: LanguageModel
) -> dict[str, _Path]:
    """Follow each text by a step: as it is, or with one more character; keep the best ones."""
    if not likely:
        return {
            text: (closed + open_, 0.0, before, last)
            for text, (closed, open_, before, last) in beam.items()
        }
    paths: dict[str, _Path] = {}
    for text, (closed, open_, before, last) in beam.items():
        total, end = closed + open_, text[-1]
        again = likely.get(end, 0.0)
        _add(paths, text, (total * blank, open_ * again, before, max(last, again)))
        for character, value in likely.items():
            # A character is doubled only across a blank
            if (part := closed if character == end else total) > 0:
                part *= value * language.factor(text, character)
                _add(paths, text + character, (0.0, part, before + last, value))
    best = sorted(paths.items(), key=lambda item: item[1][0] + item[1][1], reverse=True)[:_BEAM]
    most = best[0][1][0] + best[0][1][1]  # scaled, as it would fall below the smallest number
    return {
        text: (closed / most, open_ / most, before, last)
        for text, (closed, open_, before, last) in best
        if closed + open_ > most * _LEAST_SHARE
    }


def _add(paths: dict[str, _Path], text: str, path: _Path) -> None:
    """Add a way to a text; its characters' probabilities are those of the likeliest way."""
    if (known := paths.get(text)) is None:
        paths[text] = path
        return
    likelier = path if path[0] + path[1] > known[0] + known[1] else known
    paths[text] = (known[0] + path[0], known[1] + path[1], likelier[2], likelier[3])
