"""Checkpoints of a training, to resume it after a crash."""

import fcntl
import os
import time
import weakref
from pathlib import Path
from typing import Any

from services.common.domain.errors import PermanentError
from services.common.domain.trained_models import CHECKPOINTS

SAVE_SECONDS = 60.0
"""Minimum interval of checkpoints, the most that a crash costs."""


class OtherTrainingError(PermanentError):
    """An interrupted training of the same name has other data, settings or version."""

    code = "other_training"


class DamagedCheckpointError(PermanentError):
    """The checkpoint of an interrupted training can't be read."""

    code = "damaged_checkpoint"


class TrainingAtWorkError(PermanentError):
    """Another process trains a model of the same name."""

    code = "training_at_work"


class CheckpointFile:
    """A checkpoint file, replaced atomically; its lock is held from the first use to the end.

    The lock ends with the process, however that ends: the training can be resumed.
    """

    def __init__(self, path: Path, identity: str, *, every_seconds: float = SAVE_SECONDS) -> None:
        self._path = path
        self._identity = identity
        self._every_seconds = every_seconds
        self._saved_at = time.monotonic()
        self._lock: weakref.finalize[..., CheckpointFile] | None = None

    @property
    def is_due(self) -> bool:
        """Whether the next one is due."""
        return time.monotonic() - self._saved_at >= self._every_seconds

    def load(self) -> Any:
        """Return the saved state, or None.

        Raises:
            OtherTrainingError: It belongs to another training.
            DamagedCheckpointError: It can't be read.
            TrainingAtWorkError: Another process trains a model of this name.
        """
        import torch  # noqa: PLC0415  docreco loop, which deletes what is left, needs none

        self._acquire()
        if not self._path.exists():
            return None
        try:
            held = torch.load(self._path, weights_only=True)
            identity, state = held["identity"], held["state"]
        except (OSError, MemoryError):
            raise
        except Exception as error:  # of pickle, of zip files, or torch's own
            self._release()
            raise DamagedCheckpointError(
                f"the checkpoint {self._path} is damaged: delete it, and the training begins again"
            ) from error
        if identity != self._identity:
            self._release()
            raise OtherTrainingError(
                "a training of this name with other data or settings, or by another version, was "
                f"interrupted: finish it so, choose another name, or delete {self._path}"
            )
        return state

    def save(self, state: Any) -> None:
        """Save the state.

        Raises:
            OSError: The disk is full.
            TrainingAtWorkError: Another process trains a model of this name.
        """
        import torch  # noqa: PLC0415

        self._acquire()
        staged = self._staged_path
        with staged.open("wb") as file:  # of a path, torch hides the error of a full disk
            torch.save({"identity": self._identity, "state": state}, file)
            file.flush()
            os.fsync(file.fileno())
        staged.rename(self._path)
        self._saved_at = time.monotonic()

    def delete(self) -> None:
        """Delete it after the training, or what is left of one that is not gone on with.

        Raises:
            TrainingAtWorkError: Another process trains a model of this name.
        """
        self._acquire()
        for path in (self._path, self._staged_path):
            path.unlink(missing_ok=True)
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock_path.unlink(missing_ok=True)  # while it is held: no other process has it
            self._lock()
            self._lock = None

    @property
    def _staged_path(self) -> Path:
        return self._path.with_suffix(".partial")

    @property
    def _lock_path(self) -> Path:
        return self._path.with_suffix(".lock")

    def _acquire(self) -> None:
        """Hold the lock, unless it is held already; it names this process."""
        if self._lock is not None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_current = _is_same_file(lock, self._lock_path)
        except BlockingIOError as error:
            holder = os.pread(lock, 100, 0).decode(errors="replace").strip()
            os.close(lock)
            raise TrainingAtWorkError(
                f"a model of this name is being trained by process {holder or 'unknown'}: wait for "
                f"its end or stop it, or choose another name (lock: {self._lock_path})"
            ) from error
        if not is_current:  # its holder has ended, and deleted it meanwhile
            os.close(lock)
            self._acquire()
            return
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()} on {os.uname().nodename}".encode(), 0)
        self._lock = weakref.finalize(self, os.close, lock)


def checkpoint_path(models: Path, name: str) -> Path:
    """Return the checkpoint file of the training of a model."""
    return models / CHECKPOINTS / f"{name}.pt"


def _is_same_file(opened: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened), path.stat())
    except FileNotFoundError:
        return False
