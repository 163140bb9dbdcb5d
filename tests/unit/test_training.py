"""``docreco train`` on small exports: what it refuses, and what it makes."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.common.domain.labels import Origin
from services.datasets.manifest import Format, SplitName
from tests.support.exports import write_export
from tests.support.tiny_trocr import make_tiny_trocr, need_trocr

pytestmark = pytest.mark.slow

need_trocr()

TEXTS: dict[SplitName, list[str]] = {"train": ["one", "two", "three", "four"], "test": ["five"]}


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OCR_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "models"


def train(*arguments: object, status: int = 0) -> str:
    """Run the command; return what it says, on both streams where it refuses."""
    result = CliRunner().invoke(app, ["train", *(str(each) for each in arguments)])
    assert result.exit_code == status, result.output
    return result.stdout if status == 0 else result.output


def answer(*arguments: object) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(train(*arguments, "--json"))
    return told


@pytest.mark.parametrize(
    ("texts", "layout", "origin", "words"),
    [
        ({}, Format.HF, Origin.ANNOTATION, "no annotated images"),
        ({"validation": ["one"]}, Format.HF, Origin.ANNOTATION, "no annotated images"),
        (TEXTS, Format.HF, Origin.PREDICTION, "no annotated images"),
        (TEXTS, Format.KRAKEN, Origin.ANNOTATION, "laid out for kraken"),
    ],
    ids=["empty", "nothing to learn from", "only predictions", "another layout"],
)
def test_export_that_teaches_nothing_is_refused(
    tmp_path: Path, texts: Any, layout: Format, origin: Origin, words: str
) -> None:
    export = write_export(tmp_path / "set", texts, layout=layout, origin=origin)

    assert words in train(export, "--out", tmp_path / "model", status=4)
    assert not (tmp_path / "model").exists()


def test_what_can_not_be_is_refused_before_training(tmp_path: Path, models: Path) -> None:
    export = write_export(tmp_path / "set", TEXTS)
    taken = models / "taken"
    taken.mkdir(parents=True)

    assert "there already" in train(export, "--out", taken, status=4)
    assert "manifest.json can't be read" in train(models, "--out", tmp_path / "model", status=4)
    nowhere = ("--device", "abacus")
    assert "no device abacus" in train(export, "--out", tmp_path / "m", *nowhere, status=4)


def test_equal_seeds_give_one_model_and_others_another(tmp_path: Path, models: Path) -> None:
    exports = (
        write_export(tmp_path / "hf", TEXTS),
        write_export(tmp_path / "parquet", TEXTS, layout=Format.PARQUET),
    )
    settings = ("--epochs", 1, "--batch", 2)
    first, other = (
        answer(exports[0], "--out", models / f"lines-{seed}", "--seed", seed, *settings)
        for seed in (1, 2)
    )
    again = answer(exports[1], "--out", models / "again", "--seed", 1, *settings)

    assert first["images"] == {"train": 4, "test": 1}
    assert first["model_version"].startswith("lines-1@")
    assert again["model_version"].partition("@")[2] == first["model_version"].partition("@")[2]
    assert other["model_version"].partition("@")[2] != first["model_version"].partition("@")[2]
    assert not [each.name for each in models.iterdir() if each.name.startswith(".")]


def test_weights_of_the_epoch_that_reads_the_validation_split_best_are_kept(
    tmp_path: Path, models: Path
) -> None:
    """Its texts have nothing in common with what is learnt by heart."""
    export = write_export(tmp_path / "set", {"train": ["one", "no"], "validation": ["eeooee"]})
    told = answer(export, "--out", models / "lines", "--epochs", 12)
    merits = list(zip(told["course"]["validation_cer"], told["course"]["validation"], strict=True))

    assert told["best_epoch"] == 1 + merits.index(min(merits)) < 12
    [_, after] = told["read"]["validation"]
    assert (after["images"], after["cer"]) == (1, min(merits)[0])
    assert min(merits)[0] < merits[-1][0]


def test_checkpoint_goes_on_learning_what_it_can_write(tmp_path: Path, models: Path) -> None:
    make_tiny_trocr(models / "start")  # has tokens for single letters only
    export = write_export(tmp_path / "set", {"train": ["o", "on"]})
    shown = train(
        *(export, "--out", models / "next", "--from", "start"),
        *("--epochs", 30, "--learning-rate", 0.01),
    )
    told = answer(export, "--out", models / "last", "--from", "next", "--epochs", 1)

    assert "start@" in shown
    assert "no validation split" in shown
    assert "1 images of train left out" in shown
    assert "OCR_TROCR_MODEL=next" in shown
    assert told["left_out"] == 1
    assert told["read"]["train"][0]["exact"] == 0.5
    assert told["course"]["train"][0] < 0.1
    strange = write_export(tmp_path / "strange", {"train": ["\N{GREEK SMALL LETTER OMEGA}"]})
    assert "can write no text" in train(
        *(strange, "--out", models / "none", "--from", "next"), status=4
    )
