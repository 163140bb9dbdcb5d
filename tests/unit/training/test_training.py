"""``docreco train`` on small exports: what it refuses, and what it makes."""

import gc
import json
import math
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.local.settings import child_environment
from services.cli.main import app
from services.common.domain.labels import Origin
from services.common.domain.trained_models import CALIBRATION_MARK
from services.datasets.manifest import Format, SplitName, read_records
from tests.factories import model_record
from tests.support.exports import write_export
from tests.support.tiny_trocr import make_tiny_trocr, need_trocr

need_trocr()

import torch  # noqa: E402  of the extra

from app.engines.base import EngineReading  # noqa: E402  after what skips
from app.engines.loading import load_engine  # noqa: E402
from app.engines.model_record import ModelRecord  # noqa: E402
from app.engines.models_folder import LocalModel  # noqa: E402
from app.engines.weights import TRAINED_FILE  # noqa: E402
from services.training import chosen_lines, learning, measuring  # noqa: E402
from services.training.averaging import Average  # noqa: E402
from services.training.batches import epoch_batches, pictures  # noqa: E402
from services.training.checkpoint import CheckpointFile  # noqa: E402
from services.training.chosen_lines import ChosenLines  # noqa: E402
from services.training.course import Course, Epoch  # noqa: E402
from services.training.learnt import LEARNT, Learnt, learnt_by  # noqa: E402
from services.training.lines import TrainingLine, _held_out, read_export, read_held_out  # noqa: E402
from services.training.measuring import LineReading  # noqa: E402
from services.training.plan import TrainingPlan, rate  # noqa: E402
from services.training.trainee import open_base  # noqa: E402
from services.training.training import FineTuning  # noqa: E402

pytestmark = pytest.mark.slow

TEXTS: dict[SplitName, list[str]] = {
    "train": ["a", "b", "c", "d"],
    "validation": ["e"],
    "test": ["f"],
}
"""The tiny checkpoint has tokens for single letters only."""
ADDED = "\N{MATHEMATICAL LEFT WHITE SQUARE BRACKET}"
KILLED = """
import os, signal
from services.cli.main import app
from services.training.checkpoint import CheckpointFile

save = CheckpointFile.save

def save_and_die(self, state):
    save(self, state)
    if len(state["epochs"]) == 2 and state["losses"]:
        os.kill(os.getpid(), signal.SIGKILL)

CheckpointFile.save, CheckpointFile.is_due = save_and_die, True
app()
"""
"""Saves at every step, and is killed in the middle of the third epoch."""
PREDICTED = {key: {"origin": Origin.PREDICTION} for key in "ce"}
TINY = ("--base", "start", "--batch", "2", "--learning-rate", "0.01")


@pytest.fixture(autouse=True)
def models(models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "200")
    make_tiny_trocr(models / "start")
    return models


class FakeTrainee:
    """Reads one text, and another one once it knows what texts to expect."""

    def __init__(self, plain: str, expecting: str, *, can: bool) -> None:
        self.plain, self.expecting, self.can = plain, expecting, can
        self.expected: list[str] = []

    def expect(self, texts: Sequence[str]) -> bool:
        self.expected = sorted(texts) if self.can else []
        return self.can

    def engine(self) -> Any:
        text = self.expecting if self.expected else self.plain
        return SimpleNamespace(
            best_batch=1, read_many=lambda images: [EngineReading(text, 1.0) for _ in images]
        )


def train(*arguments: object, status: int = 0) -> str:
    """Run the command; return what it says, on both streams where it refuses."""
    result = CliRunner().invoke(app, ["train", *(str(each) for each in arguments)])
    assert result.exit_code == status, result.output
    return result.stdout if status == 0 else result.output


def answer(*arguments: object) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(train(*arguments, "--json"))
    return told


@pytest.mark.parametrize(
    ("texts", "origin"),
    [
        ({}, Origin.ANNOTATION),
        ({"validation": ["one"]}, Origin.ANNOTATION),
        (TEXTS, Origin.PREDICTION),
    ],
    ids=["empty", "nothing to learn from", "only predictions"],
)
def test_export_that_teaches_nothing_is_refused(
    tmp_path: Path, models: Path, texts: Any, origin: Origin
) -> None:
    export = write_export(tmp_path / "set", texts, origin=origin)

    assert "no annotated images" in train(export, "--name", "model", status=4)
    assert not (models / "model").exists()


def test_what_can_not_be_is_refused_before_training(tmp_path: Path, models: Path) -> None:
    export = write_export(tmp_path / "set", TEXTS)

    assert "exists already" in train(export, "--name", "start", status=4)
    for name in ("../model", "ppocrv6", ""):
        assert "can't be a model's name" in train(export, "--name", name, status=4)
    assert "manifest.json can't be read" in train(models, "--name", "model", status=4)
    assert "no device abacus" in train(
        export, "--name", "model", *TINY, "--device", "abacus", status=4
    )
    strange = write_export(tmp_path / "strange", {"train": ["\N{GREEK SMALL LETTER OMEGA}"]})
    assert "can write no text" in train(strange, "--name", "none", "--base", "start", status=4)


def test_log_of_a_training_has_each_stage_and_epoch(tmp_path: Path) -> None:
    export = write_export(tmp_path / "set", TEXTS)
    arguments = ["train", str(export), "--name", "model", *map(str, TINY), "--epochs", "2"]

    result = CliRunner().invoke(app, [*arguments, "--json"])

    assert json.loads(result.stdout)["model"] == "model"
    rates = r"loss [\d.]+, validation CER [\d.]+% \(best [\d.]+%, base [\d.]+%\), exact [\d.]+%"
    expected = [
        "reading the export",
        "measuring the base",
        "training on 4 lines from epoch 1 of 2",
        f"epoch 1 of 2: {rates}, at most .+ left",
        f"epoch 2 of 2: {rates}",
        "trying a language model",
        "measuring the new model",
    ]
    for line, pattern in zip(result.stderr.splitlines(), expected, strict=True):
        assert re.fullmatch(pattern, line), line


def test_full_disk_is_no_refusal(tmp_path: Path, models: Path) -> None:
    export = write_export(tmp_path / "set", TEXTS)
    (models / ".training").mkdir()
    (models / ".training/model.partial").symlink_to("/dev/full")

    assert "No space left on device" in train(export, "--name", "model", *TINY, status=3)


@pytest.mark.parametrize("layout", set(Format) - {Format.PAGE, Format.ALTO})  # without images
def test_every_layout_gives_the_same_lines(tmp_path: Path, layout: Format) -> None:
    expected = read_export(write_export(tmp_path / "hf", TEXTS))
    export = read_export(write_export(tmp_path / "set", TEXTS, layout=layout))

    assert [line.text for line in export.validation] == ["e"]
    assert {line.text for line in export.train} == {*TEXTS["train"]}
    for one, other in zip(export.train, expected.train, strict=True):
        assert (one.text, one.content, one.width) == (other.text, other.content, other.width)


def test_without_a_validation_split_some_lines_are_held_out(tmp_path: Path) -> None:
    texts = [f"{number:03}" for number in range(40)]
    export = read_export(write_export(tmp_path / "set", {"train": texts}))

    assert len(export.validation) == 4
    assert len(export.train) == 36


@pytest.mark.parametrize("sizes", [(9, 1), (95, 5), (5, 5), (8, 1, 1), (2,) * 5, (1,) * 20])
def test_few_sources_are_enough_to_hold_some_out(sizes: tuple[int, ...]) -> None:
    lines = [
        line_of(f"{group} {number}", f"hand {group}")
        for group, size in enumerate(sizes)
        for number in range(size)
    ]
    train, held = _held_out(lines)

    assert min(sizes) <= len(held) <= len(lines) / 2
    assert not {line.group for line in train} & {line.group for line in held}


def test_sources_that_share_a_line_are_not_divided(tmp_path: Path) -> None:
    groups = {f"{hand}{n}": [hand] for hand in "ABCD" for n in "123"}
    groups |= {"ab": ["A", "B"], "cd": ["C", "D"]}
    known = {text: {"split_groups": each} for text, each in groups.items()}
    export = read_export(write_export(tmp_path / "set", {"train": [*groups]}, known=known))

    train, held = (
        {name for line in part for name in line.groups}
        for part in (export.train, export.validation)
    )
    assert {frozenset(train), frozenset(held)} == {frozenset("AB"), frozenset("CD")}


@pytest.mark.parametrize("others", ["", "x"])
def test_hands_that_all_share_lines_are_held_out_by_the_first(tmp_path: Path, others: str) -> None:
    """A single line of another source would be too few to measure by."""
    known = {f"{hand}{n}": {"split_groups": [hand, "all"]} for hand in "ABCD" for n in "123"}
    known |= {other: {"split_groups": [other]} for other in others}
    export = read_export(write_export(tmp_path / "set", {"train": [*known]}, known=known))

    held = {line.group for line in export.validation}
    assert len(held & {*"ABCD"}) == 1
    assert 3 <= len(export.validation) <= 3 + len(others)
    assert not held & {line.group for line in export.train}


@pytest.mark.parametrize("name", list("pqrstuvw"))
def test_source_without_annotations_is_not_held_out(name: str) -> None:
    predicted = [replace(line_of(f"p{n}", name), is_annotated=False) for n in range(100)]
    lines = [line_of(f"{group} {n}", group) for group in ("B", "C") for n in range(50)]
    train, held = _held_out([*predicted, *lines])

    assert len(held) == 50
    assert {line.group for line in held} < {"B", "C"}
    assert len(train) == 150


def line_of(text: str, group: str) -> TrainingLine:
    """Return a line without a picture."""
    return TrainingLine(
        b"", text, is_annotated=True, name=text, group=group, licence=None, width=48
    )


def test_what_is_held_out_anywhere_is_not_rehearsed(tmp_path: Path, models: Path) -> None:
    """Half as many lines as new ones are rehearsed: here all that may be."""
    new = write_export(
        tmp_path / "new",
        {"train": [*"abghijklmn"], "validation": ["c"], "test": ["d", "e"]},
    )
    old = write_export(tmp_path / "old", {"train": [*"cdef"], "validation": ["o"], "test": ["p"]})
    third = write_export(tmp_path / "third", {"train": [*"opq"], "validation": ["r"]})
    rehearsed = ("--rehearse", old, "--rehearse", third)
    told = answer(new, "--name", "lines", *TINY, *rehearsed, "--epochs", 1)

    learnt = learnt_by("lines", models)
    exports = (new, old, third)
    names = {each.label: each.sha256 for part in exports for each in read_records(part)}
    assert told["images"]["rehearsed"] == 2
    assert learnt.images == {names[text] for text in "abghijklmnfq"}
    assert learnt.chosen_by == {names["c"]}


def test_line_is_rehearsed_once_and_not_where_it_is_new(tmp_path: Path) -> None:
    new = write_export(tmp_path / "new", {"train": [*"abcdefgh"], "validation": ["o"]})
    old = write_export(tmp_path / "old", {"train": [*"abcx"], "validation": ["p"]})
    again = write_export(tmp_path / "again", {"train": ["x", "y"], "validation": ["p"]})
    rehearsed = ("--rehearse", old, "--rehearse", again)
    told = answer(new, "--name", "lines", *TINY, *rehearsed, "--epochs", 1)

    assert told["images"] == {"train": 8, "validation": 1, "rehearsed": 2}
    assert told["metrics"]["rehearsed"]["after"]["images"] == 1


@pytest.mark.parametrize("is_replaced", [False, True])
def test_history_is_that_of_the_base_as_it_was_loaded(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch, *, is_replaced: bool
) -> None:
    export = write_export(tmp_path / "set", {"train": ["a", "b"], "validation": ["e"]})
    answer(export, "--name", "lines", *TINY, "--epochs", 1)
    run = FineTuning.run

    def run_and_lose(self: FineTuning) -> Course:
        shutil.rmtree(models / "lines")
        if is_replaced:
            make_tiny_trocr(models / "lines")
        return run(self)

    monkeypatch.setattr(FineTuning, "run", run_and_lose)
    told = answer(export, "--name", "more", "--base", "lines", "--epochs", 1)

    assert [each["model"] for each in told["history"]] == ["lines"]
    assert len(learnt_by("more", models).images) == 2


def test_only_lines_that_were_read_have_chosen_a_model(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (chosen_lines, measuring):
        monkeypatch.setattr(module, "MOST_LINES", 2)
    export = write_export(tmp_path / "set", {"train": ["a", "b"], "validation": [*"cde"]})
    told = answer(export, "--name", "lines", *TINY, "--epochs", 1)

    assert told["images"]["validation"] == told["metrics"]["validation"]["after"]["images"] == 2
    first, second, third = [line.name for line in read_export(export).validation]
    assert learnt_by("lines", models).chosen_by == {first, second}
    assert third not in learnt_by("lines", models).images
    assert told["known"] == 0


def test_line_that_the_base_learnt_does_not_validate(tmp_path: Path) -> None:
    first = write_export(tmp_path / "first", {"train": ["a", "b"], "validation": ["c"]})
    second = write_export(tmp_path / "second", {"train": ["c", "d"], "validation": ["a", "e"]})
    answer(first, "--name", "lines", *TINY, "--epochs", 1)
    told = answer(second, "--name", "more", "--base", "lines", "--epochs", 1)

    assert told["known"] == 1
    assert told["images"]["validation"] == 1


@pytest.mark.parametrize("split", ["test", "validation"])
def test_predictions_do_not_judge_a_model(tmp_path: Path, split: SplitName) -> None:
    texts: dict[SplitName, list[str]] = {"train": ["a", "b"], split: ["c", "d"]}
    export = write_export(tmp_path / "set", texts, known=PREDICTED)

    lines, is_test = read_held_out(export)
    assert [line.text for line in lines] == ["d"]
    assert is_test == (split == "test")


def test_predictions_neither_stop_a_training_nor_count(tmp_path: Path) -> None:
    export = write_export(tmp_path / "set", TEXTS, known=PREDICTED)
    told = answer(export, "--name", "lines", *TINY, "--epochs", 3, "--patience", 1)

    assert told["unannotated"] == 1
    assert told["metrics"].keys() == {"train"}
    assert [each["cer"] for each in told["course"]] == [None, None, None]
    assert told["best_epoch"] == 3


def test_steps_hold_each_line_once_and_follow_from_the_seed(tmp_path: Path) -> None:
    texts = ["m" * (1 + number % 19) for number in range(60)]
    lines = read_export(write_export(tmp_path / "set", {"train": texts})).train
    steps = epoch_batches(lines, 8, seed=3, epoch=1)

    assert sorted(line.text for step in steps for line in step) == sorted(
        line.text for line in lines
    )
    assert steps == epoch_batches(lines, 8, seed=3, epoch=1)
    assert steps != epoch_batches(lines, 8, seed=3, epoch=2)
    padding = [max(line.width for line in step) - line.width for step in steps for line in step]
    assert sum(padding) / len(padding) < 40
    one, other = (pictures(steps[0], seed=(1, 2), is_augmented=True) for _ in range(2))
    assert all((first == second).all() for first, second in zip(one, other, strict=True))


def test_average_is_put_into_the_module_for_a_while() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    average, restored = (Average([weight], 0.998) for _ in range(2))
    for value in (1.0, 2.0, 3.0):
        with torch.no_grad():
            weight.fill_(value)
        average.update()
    restored.restore(average.state())

    for each in (average, restored):
        with each.applied():
            assert 2 < weight.item() < 3
        assert weight.item() == 3


@pytest.mark.parametrize(
    ("plain", "expecting", "can", "is_used"),
    [
        ("x", "e", True, True),
        ("e", "x", True, False),
        ("x", "x", True, False),
        ("x", "", False, False),
    ],
)
def test_language_is_used_where_it_helps_unseen_lines(
    tmp_path: Path, *, plain: str, expecting: str, can: bool, is_used: bool
) -> None:
    export = read_export(write_export(tmp_path / "set", TEXTS))
    lines = ChosenLines([*export.train], [], {"validation": export.validation})
    trainee: Any = FakeTrainee(plain, expecting, can=can)

    assert learning._use_language(trainee, lines) == is_used
    assert trainee.expected == (sorted(TEXTS["train"]) if is_used else [])


def test_line_in_which_nothing_was_read_calibrates_no_score(tmp_path: Path) -> None:
    (tmp_path / TRAINED_FILE).touch()
    saved, line = LocalModel("lines", tmp_path), line_of("a", "hand")
    record = ModelRecord.model_validate(model_record())
    read = [
        LineReading(line, "ab"[at % 3 > 0], 0.9 - at / 200, int(at % 3 > 0))
        for at in range(learning.FEWEST_TO_CALIBRATE)
    ]
    nothing = LineReading(line, "", 0.0, 1)

    _, few = learning._calibrated(saved, record, [*read[1:], nothing])
    calibrated, version = learning._calibrated(saved, record, [*read, nothing])

    assert CALIBRATION_MARK not in few
    assert CALIBRATION_MARK in version
    assert calibrated.calibration is not None
    assert calibrated.calibration.n == len(read)


def test_training_that_was_killed_ends_as_if_it_had_not_been(tmp_path: Path, models: Path) -> None:
    export = write_export(tmp_path / "set", TEXTS, known=PREDICTED)  # the last weights are kept
    settings = (*TINY, "--epochs", "5")
    arguments = (str(export), "--name", "lines", *settings)
    environment = child_environment({"OCR_MODELS": str(models)})
    command = [sys.executable, "-c", KILLED, "train", *arguments]
    killed = subprocess.run(command, check=False, env=environment)  # noqa: S603  our own
    assert killed.returncode == -signal.SIGKILL
    assert "was interrupted" in train(*arguments, "--seed", 9, status=4)
    resumed, whole = answer(*arguments), answer(str(export), "--name", "whole", *settings)

    assert not (models / ".training/lines.pt").exists()
    losses, expected = ([each["loss"] for each in told["course"]] for told in (resumed, whole))
    assert losses == expected
    assert len(losses) == 5
    assert resumed["model_version"].partition("@")[2] == whole["model_version"].partition("@")[2]


def test_checkpoint_of_an_earlier_version_is_refused(tmp_path: Path, models: Path) -> None:
    export = write_export(tmp_path / "set", TEXTS)
    plan = TrainingPlan(16, 2, 0.01, patience=5, seed=0, device="cpu", is_augmented=True)
    known = [[learning._digest(export)], open_base("start", set()).version, asdict(plan)]
    identity = sha256(json.dumps(known).encode()).hexdigest()
    CheckpointFile(models / ".training/lines.pt", identity).save({"epochs": []})

    said = train(export, "--name", "lines", *TINY, "--device", "cpu", status=4)

    assert "by another version" in said
    assert str(models / ".training/lines.pt") in said.replace("\n", "")


def test_training_resumes_only_with_its_original_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where an earlier version held out others, or the record of its base is found again."""
    export = write_export(tmp_path / "set", TEXTS)
    arguments = (export, "--name", "lines", *TINY, "--epochs", 1)

    def interrupt(*_: object) -> bool:
        raise TimeoutError

    with monkeypatch.context() as patched:
        patched.setattr(learning, "_use_language", interrupt)
        train(*arguments, status=3)
    gc.collect()  # the error holds the checkpoint, and so its lock
    held_out = read_export(export).validation
    known = Learnt(images=frozenset({held_out[0].name}))
    with monkeypatch.context() as patched:
        patched.setattr(learning, "learnt_by", lambda *_: known)
        assert "was interrupted" in train(*arguments, status=4)
    ended = CliRunner().invoke(app, ["train", *map(str, arguments)])

    assert ended.exit_code == 0, ended.output
    assert ended.stderr.splitlines() == [
        *("reading the export", "measuring the base"),
        *("trying a language model", "measuring the new model"),
    ]


def test_training_ends_early_and_keeps_the_best_weights(tmp_path: Path) -> None:
    """The validation split has nothing in common with what is learnt by heart."""
    export = write_export(tmp_path / "set", {"train": ["a", "b"], "validation": ["c"]})
    told = answer(export, "--name", "lines", *TINY, "--epochs", 20, "--patience", 2)
    rates = [each["cer"] for each in told["course"]]

    assert told["epochs"] < 20
    assert told["best_epoch"] == 1 + rates.index(min(rates))
    assert told["metrics"]["validation"]["after"]["cer"] == min(rates)


def test_training_that_diverges_keeps_the_base(tmp_path: Path, models: Path) -> None:
    export = write_export(tmp_path / "set", {"train": ["a", "b"], "validation": ["c"]})
    base = answer(export, "--name", "base", *TINY, "--epochs", 12)
    diverging = ("--base", "base", "--batch", 2, "--learning-rate", 30, "--epochs", 3)
    shown = train(export, "--name", "worse", *diverging)
    told = json.loads((models / "worse/model.json").read_text())

    after = told["metrics"]["validation"]["after"]
    assert (told["best_epoch"], after) == (0, base["metrics"]["validation"]["after"])
    for words in ("none of 3 epochs reads the validation split better", "the loss rose"):
        assert words in shown


@pytest.mark.parametrize(
    ("losses", "has_diverged"),
    [
        ((0.01, 0.0101), False),
        ((3.0, 2.9, 3.1), False),
        ((2.0, 1.0, 0.2, 0.5), False),  # still far below where it began
        ((1.0, 9.0, 0.9), True),
        ((3.0, 0.5, 4.0, 0.6), True),
    ],
)
def test_divergence_is_told_from_noise(*, losses: Sequence[float], has_diverged: bool) -> None:
    assert Course([Epoch(each, 1, None, None) for each in losses]).has_diverged is has_diverged


def test_training_that_breaks_at_once_keeps_the_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.training.training.rate", lambda *_: math.nan)
    export = write_export(tmp_path / "set", TEXTS)
    told = answer(export, "--name", "lines", *TINY, "--epochs", 4)

    assert (told["course"], told["has_diverged"], told["best_epoch"]) == ([], True, 0)


def test_weights_that_are_not_finite_are_not_registered(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = [0.5, math.nan]
    monkeypatch.setattr("services.training.training.rate", lambda part, _: rates[part >= 0.5])
    export = write_export(tmp_path / "set", TEXTS, known=PREDICTED)  # nothing tells good weights
    said = train(export, "--name", "lines", *TINY, "--epochs", 4, status=4)

    assert "not finite in epoch 3 of 4" in said
    assert "a lower --learning-rate than 0.01" in said
    assert not [*models.glob("lines*"), *models.glob(".training/*")]


def test_short_trainings_warm_up_longer() -> None:
    rates = [rate(step / 30, 30) for step in (0, 5, 10, 15, 30)]

    assert rates == pytest.approx([0, 1 / 3, 2 / 3, 1, 0])
    assert [rate(part, 3000) for part in (0.05, 0.1)] == [0.5, 1]


def test_checkpoint_goes_on_learning_what_it_can_write(tmp_path: Path) -> None:
    export = write_export(tmp_path / "set", {"train": ["o", "on"], "validation": ["e"]})
    shown = train(export, "--name", "next", *TINY, "--epochs", 3)
    told = answer(export, "--name", "last", "--base", "next", "--epochs", 1, "--rehearse", export)

    assert "start@" in shown
    assert "1 image of train skipped" in shown
    assert "OCR_TROCR_MODEL=next" in shown
    assert told["left_out"] == 1
    assert told["base"].startswith("next@")
    assert [each["base"].partition("@")[0] for each in told["history"]] == ["start"]
    assert told["metrics"]["rehearsed"]["after"]["images"] == 1


def test_default_engine_learns_a_character_it_never_had(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = write_export(tmp_path / "set", {"train": [f"{ADDED}a", "b"], "validation": ["ab"]})
    told = answer(export, "--name", "lines", "--epochs", 1, "--batch", 2)
    report = (models / "lines/report.html").read_text()

    assert told["added_characters"] == ADDED
    assert f"The alphabet grew by {ADDED}" in report
    assert "data:image/png;base64," in report
    monkeypatch.setenv("OCR_MODEL", "lines")
    assert load_engine("rapidocr").model_version == told["model_version"]
    again = answer(export, "--name", "more", "--base", "lines", "--epochs", 1, "--batch", 2)
    assert again["added_characters"] == ""
    assert again["base"].startswith("lines@")
    earlier = learnt_by("lines", models)
    assert len(earlier.images) == 2
    assert learnt_by("more", models) == earlier
    (models / "lines" / LEARNT).unlink()
    assert not learnt_by("lines", models).is_complete
    assert again["is_base_known"]
    train(export, "--name", "third", "--base", "lines", "--epochs", 1, "--batch", 2)
    report = (models / "third/report.html").read_text()
    assert "it is not recorded by which lines the base was trained" in report
