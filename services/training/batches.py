"""Batches of an epoch: shuffled lines, of similar widths within a step.

The order follows from seed, epoch and step, so an interrupted training is resumed exactly.
"""

from collections.abc import Sequence

import numpy as np

from app.images import Pixels
from services.common.domain.pieces import in_pieces
from services.training.augmentation import augment
from services.training.lines import TrainingLine

POOL = 40
"""Steps sorted by width together: more need less padding, fewer shuffle better."""
MOST_PIXELS = 640
"""Mean width of the lines of a step, at a height of 48: longer lines make smaller steps."""


def epoch_batches(
    lines: Sequence[TrainingLine], size: int, *, seed: int, epoch: int
) -> list[list[TrainingLine]]:
    """Return the steps of an epoch, each line once."""
    random = np.random.default_rng((seed, epoch))
    batches: list[list[TrainingLine]] = []
    for numbers in in_pieces(random.permutation(len(lines)), POOL * size):
        pool = sorted((lines[number] for number in numbers), key=lambda line: line.width)
        batches += _cut(pool, size)
    return [batches[number] for number in random.permutation(len(batches))]


def _cut(lines: Sequence[TrainingLine], size: int) -> list[list[TrainingLine]]:
    batches: list[list[TrainingLine]] = []
    for line in lines:  # from narrow to wide: the last one of a step decides its width
        last = batches[-1] if batches else []
        if last and len(last) < size and (len(last) + 1) * line.width <= size * MOST_PIXELS:
            last.append(line)
        else:
            batches.append([line])
    return batches


def pictures(
    batch: Sequence[TrainingLine], *, seed: tuple[int, ...], is_augmented: bool
) -> list[Pixels]:
    """Decode and augment the lines of a step.

    Raises:
        RefusedError: The API would refuse one.
    """
    random = np.random.default_rng(seed)
    return [augment(line.pixels, random) if is_augmented else line.pixels for line in batch]
