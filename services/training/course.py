"""Course of a training: metrics of its epochs, and which one is kept."""

import math
from dataclasses import dataclass, field

EXPLODED = 2.0
"""A loss above the first one that is so many times the lowest before it is no noise."""


@dataclass(frozen=True)
class Epoch:
    """Metrics of an epoch."""

    loss: float
    """Mean of its steps."""
    seconds: float
    cer: float | None
    """Character error rate of the validation split; None without one."""
    exact: float | None


@dataclass
class Course:
    """Course of the training."""

    epochs: list[Epoch] = field(default_factory=list)
    base_cer: float | None = None
    """Character error rate of the validation split before it; None without one."""
    is_broken: bool = False
    """Whether a loss or a weight was not finite, which ended it."""

    @property
    def lowest(self) -> int:
        """Epoch with the lowest error rate, from 1; without validation split the last."""
        rates = [each.cer for each in self.epochs if each.cer is not None]
        return 1 + rates.index(min(rates)) if rates else len(self.epochs)

    @property
    def best_epoch(self) -> int:
        """Epoch of the kept weights; 0: those of the base, as none has read more."""
        rates = [each.cer for each in self.epochs if each.cer is not None]
        is_worse = self.base_cer is not None and min(rates, default=math.inf) >= self.base_cer
        return 0 if is_worse else self.lowest

    @property
    def has_diverged(self) -> bool:
        """Whether the loss rose far, in any epoch: it may have come down again."""
        losses = [each.loss for each in self.epochs]
        return self.is_broken or any(
            loss > max(losses[0], EXPLODED * min(losses[:number]))
            for number, loss in enumerate(losses[1:], 1)
        )
