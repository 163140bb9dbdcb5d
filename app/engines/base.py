"""Interface of engines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.images import Pixels


@dataclass(frozen=True)
class EngineReading:
    """An engine's reading of one image."""

    text: str
    score: float
    """Confidence of the model; the API clamps it to [0, 1]."""
    expected_cer: float | None = None
    """Expected character error rate, 0 to 1; None: not known."""


class Engine(Protocol):
    """A loaded model."""

    @property
    def name(self) -> str:
        """Name of the engine, the ``engine`` of predictions and metrics."""

    @property
    def model_version(self) -> str:
        """Version of weights, and of all else that changes its readings.

        The ``model_version`` of predictions and metrics, of letters, digits and ``@+._/-``. Two
        engines of one version read the same text in an image, with scores equal to 0.0001.
        """

    def read(self, pixels: Pixels) -> EngineReading:
        """Read one line of text (thread-safe)."""

    @property
    def best_batch(self) -> int:
        """Batch size at which ``read_many`` is fastest; 1: no batches."""

    @property
    def least_width(self) -> int:
        """Minimum width that a line is padded to, in pixels at a height of 48; 1: none."""

    def read_many(self, images: Sequence[Pixels]) -> list[EngineReading]:
        """Read several lines, in order (thread-safe)."""
