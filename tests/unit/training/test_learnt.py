"""Records of what made a model: found by name and content, as versions are."""

import gzip
import os
import shutil
import tracemalloc
from io import BytesIO
from pathlib import Path

import pytest

from app.engines.models_folder import CONFIGURATION, LocalModel
from services.training.learnt import (
    LARGEST,
    LEARNT,
    Learnt,
    learnt_by,
    learnt_by_version,
    write_learnt,
)
from tests.support.models import add_model


def test_other_model_of_the_same_name_has_learnt_something_else(tmp_path: Path) -> None:
    before = add_model(tmp_path, "lines", learnt=["a"])
    assert learnt_by_version(f"{before}+cal-01234567", tmp_path).images == {"a"}
    shutil.rmtree(tmp_path / "lines")
    gone = learnt_by_version(before, tmp_path)
    now = add_model(tmp_path, "lines", learnt=["b"], characters="b\n")

    assert gone == learnt_by_version(before, tmp_path) == Learnt(is_complete=False)
    assert learnt_by_version(now, tmp_path) == Learnt(images=frozenset("b"))


@pytest.mark.parametrize(
    ("version", "is_complete"),
    [
        ("ppocrv6-small-latin@rapidocr-3.10.0", True),
        ("ppocrv6-small@rapidocr-3.10.0+onnxruntime-f32+cal-54e40185", True),
        ("microsoft/trocr-small-handwritten@959398e1e35c-int8", True),
        ("start@0123456789ab", False),
        ("1", False),
        ("", False),
        ("@", False),
        (f"{300 * 'x'}@0123456789ab", False),
    ],
)
def test_model_that_is_not_in_the_folder(
    tmp_path: Path, version: str, *, is_complete: bool
) -> None:
    assert learnt_by_version(version, tmp_path) == Learnt(is_complete=is_complete)


def test_what_chose_a_model_is_unknown_in_a_record_of_before(tmp_path: Path) -> None:
    earlier = learnt_by_version(add_model(tmp_path, "old", learnt="a", chosen_by=None), tmp_path)
    add_model(tmp_path, "next", learnt=None)
    write_learnt(tmp_path / "next", Learnt(images=frozenset("b")) | earlier)

    known = Learnt(images=frozenset("a"), is_choice_recorded=False)
    assert earlier == known
    assert learnt_by("next", tmp_path) == known | Learnt(images=frozenset("b"))


def compressed(content: bytes, times: int) -> bytes:
    """Return a file of many times the content, without making it in one piece."""
    file = BytesIO()
    with gzip.open(file, "wb", compresslevel=1) as writer:
        for _ in range(times):
            writer.write(content)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        gzip.compress(b"[" * 100_000),
        gzip.compress(b'{"images": [], "groups": [], "chosen_by": [], "is_complete": "no"}'),
        compressed(2**20 * b" ", LARGEST // 2**20 + 1),
    ],
    ids=["empty", "not compressed", "deep", "no answer", "too large once decompressed"],
)
def test_damaged_record_is_not_complete(tmp_path: Path, content: bytes) -> None:
    version = add_model(tmp_path, "lines", learnt="a")
    (tmp_path / "lines" / LEARNT).write_bytes(content)

    assert learnt_by_version(version, tmp_path) == Learnt(is_complete=False)


def test_record_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    version = add_model(tmp_path, "lines", learnt="a")
    tracemalloc.start()
    os.truncate(tmp_path / "lines" / LEARNT, 8 * LARGEST)  # takes no disk
    try:
        assert not learnt_by_version(version, tmp_path).is_complete
        assert tracemalloc.get_traced_memory()[1] < LARGEST // 8
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", ["", "-int8", "+cal-01234567"])
def test_checkpoint_without_a_record_was_made_elsewhere(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / CONFIGURATION).touch()
    content = LocalModel("start", tmp_path / "start").content_hash

    assert learnt_by_version(f"start@{content}{suffix}", tmp_path) == Learnt()
