"""Measure a model on lines, with the OCR API's engine."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from app.engines.base import Engine
from services.common.domain.accuracy import Confusion, accuracy, character_errors, confusions
from services.common.domain.annotations import collapse
from services.common.domain.pieces import in_pieces
from services.common.domain.trained_models import Rates
from services.quality.tally import compared, merged
from services.training.lines import TrainingLine

MOST_LINES = 500
"""Limit of measured lines: the first ones, whose order is independent of texts."""
THREADS = 2


@dataclass(frozen=True)
class LineReading:
    """A model's reading of a line."""

    line: TrainingLine
    text: str
    score: float
    errors: int
    """Characters to substitute, delete and insert."""

    @property
    def accuracy(self) -> float:
        """Share of right characters."""
        return accuracy(self.errors, self.line.text)


def read_lines(engine: Engine, lines: Sequence[TrainingLine]) -> list[LineReading]:
    """Read lines as the API would, the first ``MOST_LINES``.

    Raises:
        RefusedError: An image can't be decoded.
    """
    chosen = lines[:MOST_LINES]
    batches = in_pieces(chosen, engine.best_batch)
    with ThreadPoolExecutor(THREADS) as pool:
        readings = pool.map(
            lambda batch: engine.read_many([line.pixels for line in batch]), batches
        )
        texts = [each for batch in readings for each in batch]
    return [
        LineReading(
            line, text, reading.score, character_errors(reference=line.text, hypothesis=text).errors
        )
        for line, reading in zip(chosen, texts, strict=True)
        for text in [collapse(reading.text)]
    ]


def measure(readings: Sequence[LineReading]) -> Rates:
    """Return the figures of one or more lines."""
    tally = merged(compared(each.score, each.errors, len(each.line.text)) for each in readings)
    return Rates(
        images=tally.images,
        cer=tally.errors / tally.characters,
        exact=tally.exact / tally.images,
        score=tally.score_sum / tally.images,
    )


def count_confusions(readings: Iterable[LineReading]) -> Counter[Confusion]:
    """Count confusions of characters, as the quality page does."""
    return Counter(
        wrong
        for each in readings
        for wrong in confusions(reference=each.line.text, hypothesis=each.text)
    )
