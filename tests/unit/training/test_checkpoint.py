"""Checkpoints of a training: one process at a time has that of a name."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tiny_trocr import need_trocr

need_trocr()

from services.training.checkpoint import (  # noqa: E402
    CheckpointFile,
    DamagedCheckpointError,
    TrainingAtWorkError,
)

pytestmark = pytest.mark.slow

SAVE_AND_WAIT = """
import sys, time
from pathlib import Path
from services.training.checkpoint import CheckpointFile
checkpoint = CheckpointFile(Path(sys.argv[1]), "same")
checkpoint.load()
checkpoint.save({"epochs": [1]})
print("saved", flush=True)
sys.stdin.read()
"""


def test_two_trainings_of_one_name_are_refused(tmp_path: Path) -> None:
    """The second one would continue from, and write, the state of the first."""
    path = tmp_path / ".training/lines.pt"
    first, second = (CheckpointFile(path, "same") for _ in range(2))
    first.load()
    first.save({"epochs": []})

    with pytest.raises(TrainingAtWorkError, match=f"by process {os.getpid()} on ") as refused:
        second.load()
    assert refused.value.code == "training_at_work"
    with pytest.raises(TrainingAtWorkError):
        second.save({"epochs": [1]})
    first.delete()
    assert second.load() is None
    second.delete()
    assert [*path.parent.iterdir()] == []


def test_training_that_was_killed_can_be_resumed(tmp_path: Path) -> None:
    path = tmp_path / ".training/lines.pt"
    command = [sys.executable, "-c", SAVE_AND_WAIT, str(path)]
    with subprocess.Popen(  # noqa: S603  our own
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as training:
        assert training.stdout is not None
        assert training.stdout.readline() == b"saved\n"
        with pytest.raises(TrainingAtWorkError, match=f"by process {training.pid} on "):
            CheckpointFile(path, "same").load()
        training.send_signal(signal.SIGKILL)
        training.wait()

    resumed = CheckpointFile(path, "same")
    assert resumed.load() == {"epochs": [1]}
    resumed.delete()


@pytest.mark.parametrize("kept", [0, 7, 0.5], ids=["empty", "begun", "half"])
def test_damaged_checkpoint_says_what_to_do(tmp_path: Path, kept: float) -> None:
    path = tmp_path / ".training/lines.pt"
    checkpoint = CheckpointFile(path, "same")
    checkpoint.save({"epochs": [1]})
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])

    with pytest.raises(DamagedCheckpointError, match=f"{path} is damaged: delete it"):
        checkpoint.load()
    checkpoint.delete()
    assert checkpoint.load() is None
    checkpoint.delete()
