"""Plan of a training: its parameters, its device, and the learning rate over time."""

import math
from dataclasses import dataclass

import torch

WARM_UP = 0.1
"""Share of warm-up steps."""
FEWEST_WARM_UP = 15
"""Steps, at most half of all. Adam's first ones are as long as the rate, whatever the gradient: at
the peak rate they make layers without normalisation explode."""


@dataclass(frozen=True)
class TrainingPlan:
    """Parameters of a training."""

    epochs: int
    batch: int
    """Lines per step (batch size)."""
    learning_rate: float
    """Peak; after a warm-up it decays to 0."""
    patience: int
    """Early stopping: epochs without improvement on the validation split."""
    seed: int
    device: str
    is_augmented: bool
    averaging: float = 0.998
    """Decay of the moving average of the weights, which is what is measured and kept."""


def chosen_device(name: str) -> str:
    """Return ``cpu`` or ``cuda``; ``auto`` is the available one.

    Raises:
        ValueError: The device does not exist.
    """
    has_cuda = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if has_cuda else "cpu"
    if name == "cpu" or (name == "cuda" and has_cuda):
        return name
    raise ValueError(f"no device {name}")


def rate(part: float, steps: int) -> float:
    """Return the factor of the peak learning rate: linear warm-up, cosine decay.

    Args:
        part: Share of the training that is done.
        steps: Of the whole training.
    """
    warm_up = max(WARM_UP, min(0.5, FEWEST_WARM_UP / steps))
    if part < warm_up:
        return part / warm_up
    return 0.5 + 0.5 * math.cos(math.pi * (part - warm_up) / (1 - warm_up))
