"""Trainable models: the default engine's recogniser, or a TrOCR-style checkpoint."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Protocol

from app.engines.base import Engine
from app.engines.models_folder import find_model
from app.engines.settings import ModelsSettings
from app.images import Pixels
from services.common.domain.trained_models import EMBEDDED


class Trainee(Protocol):
    """A model with weights that can change."""

    version: str
    """Of the initial weights."""
    added: list[str]
    """Characters that it could not write before."""
    usual_learning_rate: float

    @property
    def module(self) -> Any:
        """The torch module to train."""

    def can_write(self, text: str) -> bool:
        """Whether it has all characters of a text."""

    def parameters(self) -> list[dict[str, Any]]:
        """Prepare for training; return groups of parameters, with factors of the learning rate."""

    def loss(self, images: Sequence[Pixels], texts: Sequence[str]) -> Any:
        """Return the mean loss per character or token."""

    def expect(self, texts: Sequence[str]) -> bool:
        """Let the engine prefer texts like these, if it can; none: go by the image alone."""

    def engine(self) -> Engine:
        """Return the OCR API's engine with the current weights."""

    def save(self, folder: Path) -> None:
        """Write what that engine loads."""


def open_base(name: str, characters: AbstractSet[str]) -> Trainee:
    """Open the base model of a training.

    Raises:
        OSError: The model does not exist.
    """
    found = None if name == EMBEDDED else find_model(name, ModelsSettings().models)
    if name == EMBEDDED or (found is not None and found.is_for_default_engine):
        from services.training.ctc_model import open_ctc  # noqa: PLC0415  either is slow to load

        return open_ctc(found, characters)
    from services.training.trocr_model import open_trocr  # noqa: PLC0415

    return open_trocr(name)
