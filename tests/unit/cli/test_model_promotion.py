"""``docreco models``: which model the default engine serves, and who has decided that."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import pytest
from typer.testing import CliRunner

from app.engines.base import EngineReading
from app.engines.calibration import Calibration, Temperature
from app.engines.loading import load_engine, load_fallback, wanted_model
from app.engines.model_record import ModelRecord, read_record, write_record
from app.engines.models_folder import PromotionError, trained_model
from app.engines.settings import ModelsSettings
from app.engines.weights import load_weights, write_trained
from app.images import Pixels
from services.cli import model_check
from services.cli.main import app
from services.common.domain.records import How
from services.common.domain.trained_models import POINTER, PromotionDecision
from services.training import gate, measuring
from services.training.gate import HeldOut, TooFewLinesError, decide
from services.training.learnt import Learnt, write_learnt
from services.training.lines import TrainingLine
from services.training.registering import UnusableNameError, free_place, staged
from tests.factories import model_record
from tests.support.exports import write_export
from tests.support.images import line_image

pytestmark = pytest.mark.slow

EMBEDDED_NOW = "ppocrv6-small-latin@rapidocr-3.10.0+onnxruntime-f32+cal-54e40185"
UNCLEAR = "set B: the character error rate rises from 50.0% to 55.0%"
FORCED = ("--force", "--reason", "in a hurry")


@pytest.fixture
def models(models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("lines-1", "lines-2"):
        (models / name).mkdir()
        write_trained(models / name, load_weights("latin"))
    return models


def docreco(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, ["models", *arguments])
    assert result.exit_code == status, result.output
    return result.output


def listed() -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(docreco("list", "--json"))
    return answer


def record(**changes: Any) -> ModelRecord:
    return ModelRecord.model_validate(model_record(**changes))


@pytest.mark.usefixtures("models")
def test_promotion_changes_the_served_model_until_a_rollback() -> None:
    embedded = load_engine("rapidocr").model_version
    states = [wanted_model("rapidocr")]
    docreco("promote", "lines-1", "--by", "ada", *FORCED)
    states.append(wanted_model("rapidocr"))
    first = load_engine("rapidocr").model_version
    docreco("promote", "lines-2", *FORCED)
    states.append(wanted_model("rapidocr"))
    assert listed()["in_service"] == "lines-2"
    docreco("rollback", "--reason", "worse on letters")

    assert len(set(states)) == 3
    assert wanted_model("rapidocr") == states[1]
    assert first.startswith("lines-1@")
    docreco("rollback")
    assert load_engine("rapidocr").model_version == embedded
    one, two = listed()["promotions"]
    assert one["is_forced"]
    assert (one["promoted"]["by"], one["promoted"]["reason"]) == ("ada", "in a hurry")
    assert two["rolled_back"]["reason"] == "worse on letters"
    assert "nothing was promoted" in docreco("rollback", status=4)


def test_embedded_model_can_be_promoted_and_a_setting_overrules(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docreco("promote", "lines-1", *FORCED)
    docreco("promote", "ppocrv6")
    assert load_engine("rapidocr").model_version.startswith("ppocrv6-small-latin@")

    monkeypatch.setenv("OCR_MODEL", "lines-2")
    assert load_engine("rapidocr").model_version.startswith("lines-2@")
    assert [each.name for each in models.iterdir() if each.name.startswith(".")] == []


def test_files_that_were_not_promoted_are_not_served(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fallback() -> str:
        engine = load_fallback("rapidocr")
        assert engine is not None
        return engine.model_version

    for name in ("lines-1", "lines-2"):
        docreco("promote", name, *FORCED)
    (models / "lines-2/more.txt").touch()
    with pytest.raises(PromotionError, match="lines-2 has changed"):
        load_engine("rapidocr")
    assert fallback().startswith("lines-1@")

    (models / "lines-1/more.txt").touch()
    assert "lines-1 has changed" in docreco("rollback", status=4)
    assert listed()["in_service"] == "lines-2"
    assert fallback().startswith("ppocrv6-small-latin@")
    (models / POINTER).write_text("{")
    assert fallback().startswith("ppocrv6-small-latin@")
    monkeypatch.setenv("OCR_MODEL", "missing")
    assert load_fallback("rapidocr") is None


@pytest.mark.parametrize("path", ["{0}/other/lines-1", "../other/lines-1", "./lines-1", "."])
@pytest.mark.parametrize("command", ["show", "promote"])
def test_path_does_not_name_a_model(models: Path, path: str, command: str) -> None:
    other = models.parent / "other/lines-1"
    other.mkdir(parents=True)
    write_trained(other, load_weights("latin"))
    name = path.format(models.parent)
    arguments = FORCED if command == "promote" else ()

    assert "has no model" in docreco(command, name, *arguments, status=4)


def test_damaged_and_missing_files_are_told(models: Path) -> None:
    assert "no model nothing" in docreco("promote", "nothing", status=4)
    (models / POINTER).write_text("{")

    assert "can't be read" in docreco("promote", "lines-1", *FORCED, status=4)
    assert "can't be read" in docreco("list", status=4)


def test_record_is_shown_and_its_calibration_served(models: Path) -> None:
    version = f"{listed()['models'][1]['model_version']}+onnxruntime-f32"
    calibration = Calibration(
        curve=Temperature(temperature=2),
        model_version=version,
        n=99,
        fitted_at=datetime(2026, 11, 28, tzinfo=UTC),
        ece_before=0.5,
        ece_after=0.1,
    )
    write_record(models / "lines-2", record(calibration=calibration))
    docreco("promote", "lines-2", *FORCED)

    assert load_engine("rapidocr").model_version == f"{version}+cal-{calibration.hash}"
    shown = docreco("show", "lines-2")
    assert all(words in shown for words in ("32.2%", "15.1%", "CC-BY-4.0", "ppocrv6-small@"))
    assert "15.1%" in docreco("compare", "lines-1", "lines-2")


def test_model_is_promoted_only_when_it_passed_the_check(models: Path, tmp_path: Path) -> None:
    """These two read alike, so neither is better than the other."""
    export = write_export(tmp_path / "set", {"train": ["a"], "test": ["one", "two"]})
    write_record(models / "lines-2", record())
    assert "was not compared" in docreco("promote", "lines-2", status=4)
    checked = docreco("check", "lines-2", str(export), status=1)
    refused = docreco("promote", "lines-2", status=4)
    assert "the character error rate is not lower" in checked
    assert "the character error rate is not lower" in refused
    assert "Not to be promoted: the character error rate is" in docreco("show", "lines-2")
    assert "needs a --reason" in docreco("promote", "lines-2", "--force", status=4)

    decision = read_record(models / "lines-2")
    assert decision is not None
    assert decision.decision is not None
    passed = decision.decision.model_copy(update={"problems": []})
    write_record(models / "lines-2", decision.model_copy(update={"decision": passed}))
    docreco("promote", "lines-2")
    docreco("promote", "lines-1", *FORCED)
    assert [each["is_forced"] for each in listed()["promotions"]] == [False, True]
    assert "and lines-1@" in docreco("promote", "lines-2", status=4)


def check_while(meanwhile: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> str:
    """Check lines-2 while something else happens; return what the command says."""

    def decide_slowly(name: str, _: object) -> PromotionDecision:
        version = f"{name}@{trained_model(name, ModelsSettings().models).content_hash}+cal-0"
        meanwhile()
        return PromotionDecision.model_validate(decided(version) | {"against": EMBEDDED_NOW})

    monkeypatch.setattr(model_check, "_decide", decide_slowly)
    return CliRunner().invoke(app, ["models", "check", "lines-2", "set"]).output


def test_check_keeps_what_was_recorded_meanwhile(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(models / "lines-2", record())

    def record_licence() -> None:
        write_record(models / "lines-2", record(licences=["CC0-1.0"]))

    check_while(record_licence, monkeypatch)

    known = read_record(models / "lines-2")
    assert known is not None
    assert known.decision is not None
    assert known.licences == ["CC0-1.0"]


@pytest.mark.parametrize("is_there", [True, False])
def test_check_of_a_model_that_was_replaced_is_not_kept(
    models: Path, monkeypatch: pytest.MonkeyPatch, *, is_there: bool
) -> None:
    write_record(models / "lines-2", record())

    def replace_model() -> None:
        shutil.rmtree(models / "lines-2")
        if is_there:
            (models / "lines-2").mkdir()
            write_trained(models / "lines-2", load_weights("all"))
            write_record(models / "lines-2", record(base="other"))

    assert "lines-2 has changed while it was checked" in check_while(replace_model, monkeypatch)
    known = read_record(models / "lines-2")
    assert (known is not None) == is_there
    assert known is None or known.decision is None


def test_rollback_to_a_deleted_model_says_what_to_do(models: Path) -> None:
    docreco("promote", "lines-1", *FORCED)
    docreco("promote", "lines-2", *FORCED)
    shutil.rmtree(models / "lines-1")

    refused = docreco("rollback", status=4)

    assert f"lines-1, in service before lines-2, is no longer in {models}" in refused
    assert "Copy its folder back, or" in refused
    assert "docreco models promote ppocrv6" in refused
    assert listed()["in_service"] == "lines-2"


def test_promoted_files_are_readable_by_the_container_user(models: Path) -> None:
    models.chmod(0o700)
    mask = os.umask(0o077)
    try:
        with staged(free_place("lines-3")) as saved:
            write_trained(saved.folder, load_weights("latin"))
            write_record(saved.folder, record(model="lines-3"))
            write_learnt(saved.folder, Learnt())
        docreco("promote", "lines-3", *FORCED)
    finally:
        os.umask(mask)

    shared = [models, models / POINTER, *(models / "lines-3").rglob("*"), models / "lines-3"]
    modes = {path.name: path.stat().st_mode & 0o777 for path in shared}
    assert modes == {path.name: 0o755 if path.is_dir() else 0o644 for path in shared}
    assert [each.name for each in models.iterdir() if each.name.startswith(".")] == []


@pytest.mark.parametrize(
    "name", [POINTER, "lines.JSON", "../x", ".x", "ppocrv6", "ppocrv6-small-2", 101 * "x"]
)
def test_model_cannot_have_the_name_of_a_file_of_the_folder(name: str) -> None:
    with pytest.raises(UnusableNameError):
        free_place(name)


class ScriptedEngine:
    """Reads texts in order."""

    name = "scripted"
    best_batch = 1000
    least_width = 1

    def __init__(self, texts: list[str], *, score: float) -> None:
        self._texts = texts
        self._score = score
        self.model_version = "1+cal-01234567"

    def read(self, pixels: Pixels) -> EngineReading:
        return self.read_many([pixels])[0]

    def read_many(self, images: Sequence[Pixels]) -> list[EngineReading]:
        return [
            EngineReading(text, self._score) for text, _ in zip(self._texts, images, strict=True)
        ]


@pytest.mark.parametrize(
    ("new", "score", "problems", "warnings"),
    [
        (["ab"] * 40, 1.0, [], []),
        (["aX"] * 40, 0.0, ["not lower"], []),
        (["ab"] * 3 + ["aX"] * 37, 0.1, ["chance"], []),
        (
            ["ab"] * 20 + ["aX"] * 18 + ["XX"] * 2,
            0.5,
            [],
            [f"{UNCLEAR} (20 lines, p = 0.25, not enough lines to tell)"],
        ),
        (["ab"] * 40, 0.5, ["the calibration error rises"], []),
    ],
)
def test_check_wants_fewer_errors_everywhere(
    new: list[str], score: float, problems: list[str], warnings: list[str]
) -> None:
    lines = _lines(20 * "A" + 20 * "B")
    current = ScriptedEngine(["aX"] * 40, score=0.0)
    exports = [HeldOut("set", lines), HeldOut("again", lines)]
    decision = decide(ScriptedEngine(new, score=score), current, exports, Learnt())

    assert len(decision.problems) == len(problems), decision.problems
    for words, problem in zip(problems, decision.problems, strict=True):
        assert words in problem
    assert decision.by_source["set A"].against_cer == decision.against_cer == 0.5
    assert (decision.images, decision.left_out, decision.warnings) == (40, 0, warnings)


@pytest.mark.parametrize(
    ("groups", "tag", "part"),
    [("".join(10 * each for each in ascii_uppercase), "", "set Z"), (260 * "A", "B", "B")],
    ids=["last of many sources", "tag"],
)
def test_no_part_of_the_lines_may_be_read_worse(groups: str, tag: str, part: str) -> None:
    lines = _lines(groups)
    lines[250:] = [replace(each, tags=(tag,) if tag else ()) for each in lines[250:]]
    new = ScriptedEngine(["ab"] * 250 + ["XX"] * 10, score=1.0)
    decision = decide(
        new, ScriptedEngine(["aX"] * 260, score=1.0), [HeldOut("set", lines)], Learnt()
    )

    rises = f"{part}: the character error rate rises from 50.0% to 100.0% (10 lines, p = 0.00098)"
    assert decision.problems == [rises]
    assert (decision.by_source | decision.by_tag)[part] == (0.5, 1.0, 10)


def test_lines_that_a_model_has_learnt_do_not_judge_it() -> None:
    lines = _lines(20 * "A" + 20 * "B")
    learnt = Learnt.of(lines[:25]) | Learnt(is_complete=False)
    current, candidate = (ScriptedEngine([text] * 15, score=1.0) for text in ("aX", "ab"))
    decision = decide(candidate, current, [HeldOut("set", lines)], learnt)

    assert (decision.images, decision.left_out) == (15, 25)
    assert "15 of 15 lines from sources" in decision.warnings[0]
    assert "it is not recorded" in decision.warnings[1]
    with pytest.raises(TooFewLinesError, match="39 more were left out"):
        decide(candidate, current, [HeldOut("set", lines)], Learnt.of(lines[1:]))


def test_lines_that_chose_no_model_judge_before_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (gate, measuring):
        monkeypatch.setattr(module, "MOST_LINES", 30)
    lines = _lines(40 * "A")
    current, new = (ScriptedEngine([text] * 30, score=1.0) for text in ("aX", "ab"))
    learnt = Learnt.of([], validation=lines[:25])
    decision = decide(new, current, [HeldOut("set", lines, is_test=False)], learnt)

    assert decision.images == 30
    assert "15 of the 30 lines chose" in decision.warnings[0]


def test_check_says_how_many_texts_a_model_has_written() -> None:
    lines = _lines(40 * "A")
    lines[30:] = [replace(each, how=How.ACCEPTED) for each in lines[30:]]
    current = ScriptedEngine(["aX"] * 30 + ["ab"] * 10, score=1.0)
    new = ScriptedEngine(["ab"] * 39 + ["aX"], score=1.0)
    decision = decide(new, current, [HeldOut("set", lines)], Learnt())

    [warning] = decision.warnings
    assert warning.startswith("10 of 40 texts are predictions that a person accepted as shown")
    assert warning.endswith("without them the CER is 50.0% before, 0.0% after")


def test_line_counts_for_each_of_its_sources() -> None:
    lines = [replace(each, further_groups=("C",)) for each in _lines(10 * "A" + 10 * "B")]
    learnt = Learnt.of([replace(lines[0], name="other", group="D")])
    current, new = (ScriptedEngine([text] * 20, score=1.0) for text in ("aX", "ab"))
    decision = decide(new, current, [HeldOut("set", lines)], learnt)

    counts = {name: part.images for name, part in decision.by_source.items()}
    assert counts == {"set C": 20, "set A": 10, "set B": 10}
    assert "20 of 20 lines from sources that a model was trained on" in decision.warnings[0]


def test_validation_lines_judge_a_model_only_without_others() -> None:
    lines = _lines(20 * "A" + 20 * "B")
    learnt = Learnt.of([], validation=lines[:25])

    def decided_by(count: int, *, is_test: bool) -> PromotionDecision:
        current, new = (ScriptedEngine([text] * count, score=1.0) for text in ("aX", "ab"))
        return decide(new, current, [HeldOut("set", lines, is_test=is_test)], learnt)

    of_test = decided_by(15, is_test=True)
    assert (of_test.images, of_test.left_out, of_test.warnings) == (15, 25, [])
    of_validation = decided_by(40, is_test=False)
    assert (of_validation.images, of_validation.left_out) == (40, 0)
    assert "25 of the 40 lines chose the weights" in of_validation.warnings[0]


@pytest.mark.parametrize(("is_test", "at_once"), [((True, False), 18), ((False, True), 36)])
def test_line_that_another_export_measures_by_is_not_left_out(
    is_test: tuple[bool, bool], at_once: int
) -> None:
    lines = _lines(40 * "A")
    learnt = Learnt.of(lines[:4], validation=lines[:22])
    current, new = (ScriptedEngine([text] * at_once, score=1.0) for text in ("aX", "ab"))
    exports = [HeldOut(str(each), lines, is_test=each) for each in is_test]

    decision = decide(new, current, exports, learnt)

    assert (decision.images, decision.left_out) == (36, 4)
    assert "18 of the 36 lines chose" in " ".join(decision.warnings)


def test_check_says_that_it_is_not_known_what_chose_a_model() -> None:
    lines = _lines(40 * "A")
    current, new = (ScriptedEngine([text] * 40, score=1.0) for text in ("aX", "ab"))
    decision = decide(new, current, [HeldOut("set", lines)], Learnt(is_choice_recorded=False))

    [warning] = decision.warnings
    assert "not recorded by which lines the weights" in warning


@pytest.mark.parametrize(
    ("against", "now"),
    [
        ("lines-1@{other}+onnxruntime-f32", "lines-1"),
        ("lines-1@{hash}0+onnxruntime-f32", "lines-1"),
        ("ppocrv6-small-fr@{hash}+onnxruntime-f32", ""),
        ("ppocrv6-small-latin@rapidocr-3.10.0", "lines-1"),
        ("ppocrv6-small-latin@rapidocr-3.9.1+onnxruntime-f32+cal-54e40185", ""),
    ],
    ids=[
        *("other content", "longer name", "name like the embedded one's", "embedded one"),
        "embedded one of another package",
    ],
)
def test_check_against_another_model_is_none(models: Path, against: str, now: str) -> None:
    if now:
        docreco("promote", now, *FORCED)
    one, two = (trained_model(name, models).content_hash for name in ("lines-1", "lines-2"))
    decision = {
        **decided(f"lines-2@{two}+onnxruntime-f32"),
        "against": against.format(hash=one, other="0" * 12),
    }
    write_record(models / "lines-2", record(model="lines-2", decision=decision))

    assert "is in service" in docreco("promote", "lines-2", status=4)


@pytest.mark.parametrize(("against", "now"), [("lines-1@{}+x", "lines-1"), (EMBEDDED_NOW, "")])
def test_model_checked_against_the_served_one_is_promoted(
    models: Path, against: str, now: str
) -> None:
    if now:
        docreco("promote", now, *FORCED)
    one, two = (trained_model(name, models).content_hash for name in ("lines-1", "lines-2"))
    decision = {**decided(f"lines-2@{two}+cal-0"), "against": against.format(one)}
    decision["warnings"] = ["others may be read worse"]
    write_record(models / "lines-2", record(model="lines-2", decision=decision))

    assert "Warning: others may be read worse." in docreco("promote", "lines-2")


def decided(model_version: str) -> dict[str, Any]:
    """Return a decision for a model."""
    return {
        "at": datetime.now(UTC),
        "model_version": model_version,
        "images": 40,
        "cer": 0.1,
        "against_cer": 0.2,
        "p_value": 0.001,
        "calibration_error": 0.01,
        "against_calibration_error": 0.02,
        "by_source": {},
        "by_tag": {},
        "problems": [],
    }


def _lines(groups: str) -> list[TrainingLine]:
    content = line_image("ab")
    return [
        TrainingLine(
            content, "ab", is_annotated=True, name=str(n), group=group, licence=None, width=60
        )
        for n, group in enumerate(groups)
    ]
