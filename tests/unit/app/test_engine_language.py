"""Decoding by a language model of characters: CTC, prefixes, scores, and what is kept of texts."""

import json
from pathlib import Path

import numpy as np
import pytest

from app.engines.language import LanguageModel, count, parse_language, search, write_language
from app.engines.lines import Probabilities, to_reading
from app.engines.weights import LANGUAGE_FILE

CHARACTERS = ["", *"aben "]
TEXTS = ["une banane", "un ban", "la banane"] * 3
NOTHING = LanguageModel({"": {"a": 1}})


def line(*steps: dict[str, float]) -> Probabilities:
    """Return probabilities of steps; "" is the blank, and gets what is left."""
    rows = np.zeros((len(steps), len(CHARACTERS)), np.float32)
    for row, step in zip(rows, steps, strict=True):
        for character, value in step.items():
            row[CHARACTERS.index(character)] = value
        row[0] += 1 - row.sum()
    return rows


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([{}, {}], ""),
        ([{"b": 1.0}, {"a": 1.0}], "ba"),
        ([{"a": 1.0}, {"a": 1.0}], "a"),
        ([{"a": 1.0}, {}, {"a": 1.0}], "aa"),
        ([{}, {"b": 1.0}, {"b": 1.0}, {}, {"a": 1.0}], "ba"),
    ],
)
def test_clear_lines_are_read_as_without_a_language(
    steps: list[dict[str, float]], expected: str
) -> None:
    probabilities = line(*steps)
    greedy = to_reading(probabilities, np.array(CHARACTERS))

    for language in (LanguageModel(count(TEXTS)), NOTHING):
        reading = search(probabilities, CHARACTERS, language)
        assert reading.text == greedy.text == expected
        assert reading.score == pytest.approx(greedy.score)


def test_unclear_character_is_read_as_texts_have_it() -> None:
    probabilities = line({"b": 1.0}, {"e": 0.55, "a": 0.45}, {"n": 1.0})
    reading = search(probabilities, CHARACTERS, LanguageModel(count(TEXTS)))

    assert to_reading(probabilities, np.array(CHARACTERS)).text == "ben"
    assert reading.text == "ban"
    assert reading.score < (1 + 0.45 + 1) / 3


def test_ways_to_one_text_are_added_up() -> None:
    """Greedily there is no character: blanks are the likeliest of each step."""
    probabilities = line(*[{"a": 0.45}] * 3)

    assert search(probabilities, CHARACTERS, NOTHING).text == "a"


def test_long_lines_do_not_underflow() -> None:
    probabilities = line(*[{"a": 0.3, "n": 0.3}, {}] * 3000)

    assert 0 < search(probabilities, CHARACTERS, LanguageModel(count(TEXTS))).score <= 1


def test_file_keeps_no_text_that_was_there_once(tmp_path: Path) -> None:
    secret = "ne bene ab"
    write_language(tmp_path, LanguageModel(count([*TEXTS, secret])))
    content = (tmp_path / LANGUAGE_FILE).read_bytes()
    longest = {
        context + after
        for context, known in json.loads(content).items()
        for after in known
        if len(context) >= 4
    }

    assert {"banan", "\nune b"} <= longest
    assert not any(each in secret for each in longest)
    kept = parse_language({LANGUAGE_FILE: content}, folder=tmp_path)
    assert kept is not None
    assert kept.factor("ba", "n") == LanguageModel(count([*TEXTS, secret])).factor("ba", "n")
    assert kept.factor("ba", "n") > kept.factor("ba", "b") > kept.factor("ba", "?") > 0
    assert parse_language({}, folder=tmp_path) is None
