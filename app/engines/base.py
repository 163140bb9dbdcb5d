"""What the API asks of an engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.images import Pixels


@dataclass(frozen=True)
class Reading:
    """What an engine reads in one image."""

    text: str
    score: float
    """Confidence as the model has it; the API bounds it to [0, 1]."""


class Engine(Protocol):
    """A loaded model."""

    @property
    def name(self) -> str:
        """What reads the text, the ``engine`` of predictions and metrics."""

    @property
    def model_version(self) -> str:
        """Its weights, and all else that changes what it reads.

        The ``model_version`` of predictions and metrics, of letters, digits and ``@+._/-``. Two
        engines of one version read the same text in an image, with scores equal to 0.0001.
        """

    def read(self, pixels: Pixels) -> Reading:
        """Read one line of text; several threads call this at once."""

    @property
    def best_batch(self) -> int:
        """Images that ``read_many`` reads faster together than one by one; 1: none."""

    @property
    def least_width(self) -> int:
        """Pixels of width, at a height of 48, that a narrower line costs too; 1: none."""

    def read_many(self, images: Sequence[Pixels]) -> list[Reading]:
        """Read several lines, in their order; several threads call this at once."""
