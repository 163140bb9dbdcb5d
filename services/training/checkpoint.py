"""The state of a training on disk, so that one that was killed goes on."""

import time
from pathlib import Path
from typing import Any

import torch

from services.common.domain.errors import PermanentError

SAVE_SECONDS = 60.0
"""Between two checkpoints, at least: what a kill costs at most."""


class OtherTrainingError(PermanentError):
    """A training of the same name, and of other data or settings, was interrupted."""

    code = "other_training"


class CheckpointFile:
    """One file, replaced as a whole.

    Args:
        path: Where it is.
        identity: Of data and settings; a training goes on only from a checkpoint of its own.
        every_seconds: Between two checkpoints within an epoch.
    """

    def __init__(self, path: Path, identity: str, *, every_seconds: float = SAVE_SECONDS) -> None:
        self._path = path
        self._identity = identity
        self._every_seconds = every_seconds
        self._saved_at = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether the last one is old."""
        return time.monotonic() - self._saved_at >= self._every_seconds

    def load(self) -> Any:
        """Return the state that was saved; None where none was.

        Raises:
            OtherTrainingError: It is another training's.
        """
        if not self._path.exists():
            return None
        held = torch.load(self._path, weights_only=True)
        if held["identity"] != self._identity:
            raise OtherTrainingError(
                f"a training of this name with other data or settings was interrupted: finish it, "
                f"choose another name, or delete {self._path}"
            )
        return held["state"]

    def save(self, state: Any) -> None:
        """Save the state.

        Raises:
            OSError: The disk takes no more.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        staged = self._path.with_suffix(".partial")
        torch.save({"identity": self._identity, "state": state}, staged)
        staged.rename(self._path)
        self._saved_at = time.monotonic()

    def delete(self) -> None:
        """Delete it: the training is done."""
        self._path.unlink(missing_ok=True)
