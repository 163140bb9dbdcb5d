"""How well a model reads lines, by the engine that the OCR API reads with."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.engines.settings import TrocrSettings
from app.engines.trocr import Checkpoint, TrocrEngine
from services.common.domain.accuracy import character_errors
from services.common.domain.annotations import collapse
from services.training.lines import Line

MOST_LINES = 500
"""Of a split that are measured: its first ones, whose order no text decides."""

RAMBLING = 2
"""Times the longest right text: a model that goes on for longer is not listened to; one with random
weights never ends."""


@dataclass(frozen=True)
class Measure:
    """What a model reads in some lines, against what is right."""

    images: int
    cer: float
    """Edits of characters, to the characters of the right texts."""
    exact: float
    """Share of the lines read without an error."""


def measure(checkpoint: Checkpoint, lines: Sequence[Line]) -> Measure:
    """Read lines, at least one, as the API would.

    Raises:
        RefusedError: An image can't be decoded.
    """
    measured = lines[:MOST_LINES]
    longest = max(len(line.text) for line in measured)
    most_tokens = min(TrocrSettings().trocr_max_tokens, RAMBLING * longest)
    engine = TrocrEngine(checkpoint, max_tokens=most_tokens, is_int8=False)
    errors = characters = exact = 0
    for start in range(0, len(measured), engine.best_batch):
        batch = measured[start : start + engine.best_batch]
        for line, reading in zip(
            batch, engine.read_many([each.pixels for each in batch]), strict=True
        ):
            counted = character_errors(right=line.text, read=collapse(reading.text))
            errors += counted.errors
            characters += counted.characters
            exact += counted.errors == 0
    return Measure(len(measured), errors / characters, exact / len(measured))
