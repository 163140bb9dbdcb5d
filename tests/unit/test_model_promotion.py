"""``docreco models``: which model the default engine serves, and who has decided that."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.engines.calibration import Calibration, Temperature
from app.engines.loading import load_engine, wanted_model
from app.engines.model_record import Change, ModelRecord, Rates, write_record
from app.engines.promotion import POINTER
from app.engines.weights import load_weights, write_trained
from services.cli.main import app

pytestmark = pytest.mark.slow


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    monkeypatch.setenv("OCR_MODELS", str(folder))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("lines-1", "lines-2"):
        (folder / name).mkdir(parents=True)
        write_trained(folder / name, load_weights("latin"))
    return folder


def docreco(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, ["models", *arguments])
    assert result.exit_code == status, result.output
    return result.output


def listed() -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(docreco("list", "--json"))
    return answer


def record(**changes: Any) -> ModelRecord:
    rates = [Rates(images=9, cer=cer, exact=0.1, score=0.5) for cer in (0.322, 0.151)]
    return ModelRecord.model_validate(
        {
            "model": "lines-2",
            "base": "ppocrv6-small@rapidocr-3",
            "trained_at": datetime(2026, 11, 28, tzinfo=UTC),
            "export_sha256": 64 * "a",
            "images": {"train": 9},
            "licences": ["CC-BY-4.0"],
            "settings": {"epochs": 3},
            "epochs": 3,
            "best_epoch": 2,
            "added_characters": "",
            "metrics": {"validation": Change(before=rates[0], after=rates[1])},
            **changes,
        }
    )


@pytest.mark.usefixtures("models")
def test_promotion_changes_what_is_served_and_rollback_takes_it_back() -> None:
    embedded = load_engine("rapidocr").model_version
    states = [wanted_model("rapidocr")]
    docreco("promote", "lines-1", "--by", "ada", "--reason", "fewer errors")
    states.append(wanted_model("rapidocr"))
    first = load_engine("rapidocr").model_version
    docreco("promote", "lines-2")
    states.append(wanted_model("rapidocr"))
    assert listed()["in_service"] == "lines-2"
    docreco("rollback", "--reason", "worse on letters")

    assert len(set(states)) == 3
    assert wanted_model("rapidocr") == states[1]
    assert first.startswith("lines-1@")
    docreco("rollback")
    assert load_engine("rapidocr").model_version == embedded
    one, two = listed()["promotions"]
    assert (one["promoted"]["by"], one["promoted"]["reason"]) == ("ada", "fewer errors")
    assert two["rolled_back"]["reason"] == "worse on letters"
    assert "nothing was promoted" in docreco("rollback", status=4)


def test_embedded_model_can_be_promoted_and_a_setting_overrules(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docreco("promote", "lines-1")
    docreco("promote", "ppocrv6")
    assert load_engine("rapidocr").model_version.startswith("ppocrv6-small-latin@")

    monkeypatch.setenv("OCR_MODEL", "lines-2")
    assert load_engine("rapidocr").model_version.startswith("lines-2@")
    assert [each.name for each in models.iterdir() if each.name.startswith(".")] == []


def test_damaged_and_missing_files_are_told(models: Path) -> None:
    assert "no model nothing" in docreco("promote", "nothing", status=4)
    (models / POINTER).write_text("{")

    assert "can't be read" in docreco("promote", "lines-1", status=4)
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
    docreco("promote", "lines-2")

    assert load_engine("rapidocr").model_version == f"{version}+cal-{calibration.hash}"
    shown = docreco("show", "lines-2")
    assert all(words in shown for words in ("32.2%", "15.1%", "CC-BY-4.0", "ppocrv6-small@"))
    assert "15.1%" in docreco("compare", "lines-1", "lines-2")
