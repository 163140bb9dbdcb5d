"""Records of models: written by several commands at once."""

import fcntl
import os
from pathlib import Path

import pytest

from app.engines import model_record
from app.engines.model_record import ModelRecord, read_record, write_record
from app.engines.models_folder import write_shared
from services.common.domain.trained_models import RECORD
from tests import factories


def test_two_writers_of_a_file_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / RECORD
    written: list[str] = []

    def fsync(_: int) -> None:
        if not written:  # the second writer begins and ends while the first one writes
            written.append("second")
            write_shared(path, "second")

    monkeypatch.setattr(os, "fsync", fsync)
    write_shared(path, "first, and longer")

    assert path.read_text() == "first, and longer"
    assert [*tmp_path.iterdir()] == [path]


def test_failed_write_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / RECORD
    write_shared(path, "first")

    def fsync(_: int) -> None:
        raise OSError("disk is full")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="full"):
        write_shared(path, "second")

    assert path.read_text() == "first"
    assert [*tmp_path.iterdir()] == [path]


def test_record_is_written_under_the_lock_of_promotions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lines-2").mkdir()
    record = ModelRecord.model_validate(factories.model_record())

    def write_locked(path: Path, text: str) -> None:
        lock = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(lock)
        write_shared(path, text)

    monkeypatch.setattr(model_record, "write_shared", write_locked)
    write_record(tmp_path / "lines-2", record)

    assert read_record(tmp_path / "lines-2") == record
