"""Average the weights of a training's last steps, which read better than those of any one step."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch


class Average:
    """Exponential moving average of parameters.

    Polyak and Juditsky, SIAM J. Control Optim. 30 (1992), in the form of Tarvainen and Valpola,
    NeurIPS 2017. The decay rises with the steps, so that it reaches back over a ninth of them until
    the limit is reached, and short trainings are not held back by the weights they began with.

    Args:
        parameters: Those that change.
        decay: Share of the average that a step keeps at most; 0: no average.
    """

    def __init__(self, parameters: Sequence[torch.Tensor], decay: float) -> None:
        self._parameters = [each.detach() for each in parameters]
        self._means = [each.clone() for each in self._parameters]
        self._decay = decay
        self._steps = 0

    def update(self) -> None:
        """Add the parameters after a step."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for mean, current in zip(self._means, self._parameters, strict=True):
            mean.lerp_(current, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the module, for a while."""
        current = [each.clone() for each in self._parameters]
        _copy(self._means, self._parameters)
        try:
            yield
        finally:
            _copy(current, self._parameters)

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"means": self._means, "steps": self._steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        _copy(state["means"], self._means)
        self._steps = state["steps"]


def _copy(values: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]) -> None:
    for value, target in zip(values, targets, strict=True):
        target.copy_(value)
