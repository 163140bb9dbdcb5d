"""``docreco calibrate`` against a real database, up to an engine that uses its file."""

import asyncio
import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from app.engines.calibration import Calibration, Temperature
from app.engines.loading import FILE, known_calibrations
from services.cli.main import app
from services.common.adapters.mongo import open_database
from services.common.runtime.settings import MongoSettings
from tests.support.models import add_model

pytestmark = pytest.mark.usefixtures("mongo_environment")

VERSION = "ppocrv6-small-latin@rapidocr-3.10.0+onnxruntime-f32"


def document(name: str, score: float, text: str, right: str, **changes: Any) -> dict[str, Any]:
    at = datetime.now(tz=UTC)
    version = changes.pop("model_version", VERSION)
    quality = changes.pop("quality", "ok")
    return {
        "_id": f"raw/{name}.png",
        "status": "predicted",
        "sha256": sha256(name.encode()).hexdigest(),
        "prediction": {"text": text, "score": score, "model_version": version},
        "annotation": {"text": right, "quality": quality, "by": "a", "at": at},
        **changes,
    }


def sure_of_itself(count: int, **changes: Any) -> list[dict[str, Any]]:
    """Return predictions of which the share right is what the halved logit says."""
    random = np.random.default_rng(11)
    logits = random.normal(1, 2, count)
    is_right = random.random(count) < 1 / (1 + np.exp(-logits))
    surer = 1 / (1 + np.exp(-2 * logits))
    name = changes.pop("name", "line")
    return [
        document(
            f"{name}-{number}", float(score), "e\u0301te\u0301", "été" if good else "ete", **changes
        )
        for number, (score, good) in enumerate(zip(surer, is_right, strict=True))
    ]


def handwriting(count: int) -> list[dict[str, Any]]:
    """Return predictions with high scores of which hardly any below 0.9 is right."""
    random = np.random.default_rng(13)
    scores = np.clip(1 - random.exponential(0.12, count), 0.01, 0.999)
    is_right = random.random(count) < np.where(scores > 0.9, 6 * (scores - 0.9), 0.0)
    return [
        document(f"hand-{number}", float(score), "a" if good else "b", "a")
        for number, (score, good) in enumerate(zip(scores, is_right, strict=True))
    ]


async def store(settings: MongoSettings, documents: list[dict[str, Any]]) -> None:
    async with open_database(settings) as database:
        await database.images.insert_missing(documents)


async def calibrate(*arguments: str) -> Any:
    return await asyncio.to_thread(CliRunner().invoke, app, ["calibrate", *arguments])


async def test_calibration_is_fitted_to_annotations_and_written(
    mongo_settings: MongoSettings, tmp_path: Path
) -> None:
    await store(mongo_settings, sure_of_itself(600))
    out = tmp_path / "calibration.json"

    result = await calibrate("--out", str(out), "--method", "temperature")

    assert result.exit_code == 0, result.output
    calibration = Calibration.model_validate_json(out.read_text())
    assert isinstance(calibration.curve, Temperature)
    assert calibration.curve.temperature == pytest.approx(2, rel=0.25)
    assert (calibration.model_version, calibration.n) == (VERSION, 600)
    assert calibration.ece_after < calibration.ece_before / 2
    assert all(word in result.stdout for word in (VERSION, "600", f"{calibration.ece_after:.3f}"))


async def test_auto_refreshes_what_makes_scores_better(
    mongo_settings: MongoSettings, models: Path
) -> None:
    *_, packaged = known_calibrations(models)
    surer = sure_of_itself(300, model_version=packaged.model_version)
    for each in surer[:150]:  # the others have the model's own scores
        prediction = each["prediction"]
        prediction["model_version"] += f"+cal-{packaged.hash}"
        prediction["score"] = packaged.curve(prediction["score"], len(prediction["text"]))
    await store(mongo_settings, surer)
    unknown = f"{packaged.model_version}+cal-01234567"
    await store(mongo_settings, sure_of_itself(7, name="unknown", model_version=unknown))
    other = add_model(models, "other", learnt=[])
    await store(mongo_settings, sure_of_itself(49, name="other", model_version=other))
    await store(mongo_settings, sure_of_itself(51, name="gone", model_version="gone@0123456789ab"))

    first, second = [json.loads((await calibrate("--auto", "--json")).stdout) for _ in range(2)]

    skipped, few, gone, refreshed = sorted(first["models"], key=lambda each: each["images"])
    assert (skipped["model_version"], skipped["images"]) == (unknown, 7)
    assert skipped["outcome"].startswith("skipped: the calibration is isotonic or not known")
    assert (few["calibration"], few["outcome"]) == (None, "49 annotated images; 50 are needed")
    assert (gone["model_version"], gone["calibration"]) == ("gone@0123456789ab", None)
    assert "not recorded what it was trained on" in gone["outcome"]
    assert (refreshed["images"], refreshed["model_version"]) == (300, packaged.model_version)
    assert refreshed["calibration"] == json.loads((models / FILE).read_text())["calibrations"][0]
    assert refreshed["calibration"]["ece_after"] < 0.1
    assert [each["calibration"] for each in second["models"]] == [None] * 4


async def test_file_of_calibrations_that_would_be_too_large_is_left(
    mongo_settings: MongoSettings, models: Path
) -> None:
    *_, packaged = known_calibrations(models)
    await store(mongo_settings, sure_of_itself(300, model_version=packaged.model_version))
    points = [0.5] * 100_000  # a line each in the file that is written
    curve = {"method": "isotonic", "scores": points, "probabilities": points}
    large = packaged.model_dump(mode="json") | {"model_version": "large@1", "curve": curve}
    before = json.dumps({"calibrations": [large]})
    (models / FILE).write_text(before)

    result = await calibrate("--auto")

    assert (result.exit_code, (models / FILE).read_text() == before) == (4, True)
    assert "would be larger than 1 MiB" in result.stderr


async def test_what_a_model_has_learnt_does_not_calibrate_it(
    mongo_settings: MongoSettings, tmp_path: Path, models: Path
) -> None:
    learnt = [document("learnt-" + str(n), 0.5, "a", "a") for n in range(90)]
    hashes = [each["sha256"] for each in learnt]
    version = add_model(models, "lines", learnt=hashes)
    other = add_model(models, "old", learnt=None)
    documents = sure_of_itself(300, model_version=version)
    for each in learnt:
        each["prediction"]["model_version"] = version
    unrecorded = sure_of_itself(400, name="old", model_version=other)
    await store(mongo_settings, [*documents, *learnt, *unrecorded])
    out = tmp_path / "calibration.json"

    told = json.loads((await calibrate("--out", str(out), "--json")).stdout)
    refused = await calibrate("--out", str(out), "--model-version", other)

    assert told["unrecorded"] == {other: 400}
    assert (told["model_version"], told["n"], told["left_out"]) == (version, 300, 90)
    assert refused.exit_code == 4
    assert "not recorded what it was trained on" in refused.output


async def test_isotonic_curve_can_be_asked_for_and_the_answer_be_json(
    mongo_settings: MongoSettings, tmp_path: Path
) -> None:
    await store(mongo_settings, sure_of_itself(300))
    out = tmp_path / "calibration.json"

    result = await calibrate("--method", "isotonic", "--out", str(out), "--json")

    answer = json.loads(result.stdout)
    assert (answer["file"], answer["n"]) == (str(out), 300)
    assert answer["curve"] == json.loads(out.read_text())["curve"]
    assert answer["curve"]["method"] == "isotonic"


async def test_best_method_is_chosen_and_its_effect_is_shown(
    mongo_settings: MongoSettings, tmp_path: Path
) -> None:
    await store(mongo_settings, handwriting(1200))
    out = tmp_path / "calibration.json"

    result = await calibrate("--out", str(out))

    assert result.exit_code == 0, result.output
    assert Calibration.model_validate_json(out.read_text()).ece_after < 0.1
    assert "really right" in result.stdout
    assert "0.8-0.9" in result.stdout


async def test_fit_at_a_bound_is_refused_and_writes_nothing(
    mongo_settings: MongoSettings, tmp_path: Path
) -> None:
    await store(mongo_settings, handwriting(1200))
    out = tmp_path / "calibration.json"

    result = await calibrate("--out", str(out), "--method", "temperature")

    assert result.exit_code == 4
    assert "at a bound" in result.stderr
    assert not out.exists()


async def test_only_annotated_scores_of_the_model_itself_count(
    mongo_settings: MongoSettings, tmp_path: Path, models: Path
) -> None:
    other = add_model(models, "other", learnt=[])
    await store(mongo_settings, sure_of_itself(60))
    await store(
        mongo_settings, sure_of_itself(99, name="cal", model_version=f"{VERSION}+cal-01234567")
    )
    await store(mongo_settings, sure_of_itself(99, name="unread", quality="unreadable"))
    await store(mongo_settings, sure_of_itself(99, name="gone", status="removed"))
    await store(mongo_settings, sure_of_itself(55, name="other", model_version=other))
    await store(mongo_settings, [document("blank", 0.0, "", "été")])
    await store(mongo_settings, [{"_id": "raw/new.png", "status": "predicted", "annotation": None}])
    copies = [{**each, "_id": f"{each['_id']}.copy"} for each in sure_of_itself(60)]
    await store(mongo_settings, copies)
    out = tmp_path / "calibration.json"

    shown = (await calibrate("--out", str(out))).stdout
    assert json.loads(out.read_text())["n"] == 60
    assert f"99 images of {VERSION}+cal-01234567 skipped" in " ".join(shown.split())

    await calibrate("--out", str(out), "--model-version", f"{other}+cal-01234567")
    calibration = json.loads(out.read_text())
    assert (calibration["n"], calibration["model_version"]) == (55, other)


async def test_model_that_is_not_recorded_is_not_chosen(
    mongo_settings: MongoSettings, tmp_path: Path
) -> None:
    await store(mongo_settings, sure_of_itself(400, model_version="gone@0123456789ab"))
    out = tmp_path / "calibration.json"

    result = await calibrate("--out", str(out))

    assert result.exit_code == 4
    assert "0 annotated images of any model; 50 are needed" in result.stderr
    assert "400 images of gone@0123456789ab skipped: not recorded" in result.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("count", "arguments", "words"),
    [
        (0, (), "0 annotated images of any model; 50 are needed"),
        (49, (), f"49 annotated images of {VERSION}; 50 are needed"),
        (60, ("--model-version", "other"), "0 annotated images of other; 50 are needed"),
    ],
)
async def test_too_few_annotations_are_refused_with_what_to_do(
    mongo_settings: MongoSettings,
    tmp_path: Path,
    count: int,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    await store(mongo_settings, sure_of_itself(count))
    out = tmp_path / "calibration.json"

    result = await calibrate("--out", str(out), *arguments)

    assert result.exit_code == 4
    assert words in result.stderr
    assert "docreco annotate" in result.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("out", "status", "words"),
    [("/nowhere/calibration.json", 4, "No such file"), ("/dev/full", 3, "No space left")],
)
async def test_file_that_cannot_be_written_is_told(
    mongo_settings: MongoSettings, out: str, status: int, words: str
) -> None:
    await store(mongo_settings, sure_of_itself(60))

    result = await calibrate("--out", out)

    assert result.exit_code == status
    assert f"can't be written: {words}" in result.stderr
