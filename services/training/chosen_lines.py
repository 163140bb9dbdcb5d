"""Choose the lines of a training: those to learn from, and those to measure by."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.training.learnt import Learnt
from services.training.lines import TRAIN, VALIDATION, Export, TrainingLine, annotated
from services.training.measuring import MOST_LINES
from services.training.trainee import Trainee

REHEARSED = "rehearsed"
REHEARSAL_SHARE = 0.5
"""Limit of rehearsed lines, as a share of new ones."""


@dataclass(frozen=True)
class ChosenLines:
    """The lines of a training."""

    new: list[TrainingLine]
    rehearsed: list[TrainingLine]
    measured: dict[str, Sequence[TrainingLine]]
    """Annotated lines that are read before and after, by split."""
    known: int = 0
    """Further lines of the validation split, which are learnt."""

    @property
    def all(self) -> list[TrainingLine]:
        """Lines to learn from."""
        return [*self.new, *self.rehearsed]

    @property
    def counts(self) -> dict[str, int]:
        """Number of lines by use."""
        return {
            TRAIN: len(self.new),
            VALIDATION: len(self.measured[VALIDATION]),
            REHEARSED: len(self.rehearsed),
        }

    @property
    def licences(self) -> list[str]:
        """Licences of the lines to learn from, as far as they are known."""
        return sorted({line.licence for line in self.all if line.licence})


def choose_lines(
    export: Export, old: Sequence[Export], trainee: Trainee, base: Learnt, *, seed: int
) -> ChosenLines:
    """Choose the lines to learn from, and those to measure by, of which none is learnt.

    Neither by this training nor by its base. What any of the exports has held out is not rehearsed,
    nor what is new; a line of several earlier exports counts once.
    """
    held = frozenset[str]().union(*(each.held_out for each in (export, *old)))
    new = [line for line in export.train if trainee.can_write(line.text)]
    unfit = held.union(line.name for line in new)
    others = {
        line.name: line for each in old for line in each.train if trainee.can_write(line.text)
    }
    earlier = [line for name, line in others.items() if name not in unfit]
    most = int(REHEARSAL_SHARE * len(new))
    order = np.random.default_rng(seed).permutation(len(earlier))[:most]
    rehearsed = [earlier[number] for number in order]
    learnt = base.images.union(line.name for line in (*new, *rehearsed))
    unseen = [line for line in export.validation if line.name not in learnt]
    validating = {line.name: line for each in old for line in each.validation}
    measured: dict[str, Sequence[TrainingLine]] = {
        TRAIN: annotated(new),
        VALIDATION: unseen[:MOST_LINES],
        REHEARSED: [line for name, line in validating.items() if name not in learnt],
    }
    return ChosenLines(new, rehearsed, measured, known=len(export.validation) - len(unseen))
