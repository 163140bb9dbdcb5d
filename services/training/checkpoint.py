"""Checkpoints of a training, to resume it after a crash."""

import time
from pathlib import Path
from typing import Any

import torch

from services.common.domain.errors import PermanentError

SAVE_SECONDS = 60.0
"""Minimum interval of checkpoints, the most that a crash costs."""


class OtherTrainingError(PermanentError):
    """An interrupted training of the same name has other data, settings or version."""

    code = "other_training"


class CheckpointFile:
    """A checkpoint file, replaced atomically."""

    def __init__(self, path: Path, identity: str, *, every_seconds: float = SAVE_SECONDS) -> None:
        self._path = path
        self._identity = identity
        self._every_seconds = every_seconds
        self._saved_at = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether the next one is due."""
        return time.monotonic() - self._saved_at >= self._every_seconds

    def load(self) -> Any:
        """Return the saved state, or None.

        Raises:
            OtherTrainingError: It belongs to another training.
        """
        if not self._path.exists():
            return None
        held = torch.load(self._path, weights_only=True)
        if held["identity"] != self._identity:
            raise OtherTrainingError(
                "a training of this name with other data or settings, or by another version, was "
                f"interrupted: finish it so, choose another name, or delete {self._path}"
            )
        return held["state"]

    def save(self, state: Any) -> None:
        """Save the state.

        Raises:
            OSError: The disk is full.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        staged = self._path.with_suffix(".partial")
        torch.save({"identity": self._identity, "state": state}, staged)
        staged.rename(self._path)
        self._saved_at = time.monotonic()

    def delete(self) -> None:
        """Delete it after the training."""
        self._path.unlink(missing_ok=True)
