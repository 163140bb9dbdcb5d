"""Calibrations: what they do to scores, when they are refused, and what is learnt from samples."""

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engines.base import EngineReading
from app.engines.calibration import (
    Calibration,
    CalibrationError,
    Curve,
    Isotonic,
    Length,
    Platt,
    Temperature,
    calibrated,
)
from app.engines.fitting import (
    METHODS,
    MethodName,
    Scores,
    bins_of,
    expected_calibration_error,
    fit,
    fit_accuracy,
    fit_best,
)
from app.engines.loading import (
    FILE,
    add_calibrations,
    known_calibrations,
    load_engine,
    wanted_model,
)
from app.images import Pixels

LINE: Pixels = np.zeros((48, 320, 3), np.uint8)

scores = st.floats(0, 1)
numbers = {"slope": st.floats(0.001, 50), "intercept": st.floats(-50, 50)}
lines = st.one_of(
    st.builds(Temperature, temperature=st.floats(0.05, 20)),
    st.builds(Platt, **numbers),
    st.builds(Length, power=st.floats(0, 50), **numbers),
)
curves = st.one_of(
    lines,
    st.lists(st.tuples(scores, scores), min_size=1, max_size=9).map(
        lambda points: Isotonic(
            scores=tuple(sorted(score for score, _ in points)),
            probabilities=tuple(sorted(share for _, share in points)),
        )
    ),
)


@dataclass
class FakeEngine:
    """Reads what it is told."""

    readings: tuple[EngineReading, ...] = (EngineReading("one", 0.9), EngineReading("", 0.0))
    name: str = "fake"
    model_version: str = "fake-1"
    best_batch: int = 8
    least_width: int = 320

    def read(self, _: Pixels) -> EngineReading:
        return self.readings[0]

    def read_many(self, _: object) -> list[EngineReading]:
        return [*self.readings]


def write(
    folder: Path, curve: Curve, model_version: str = "fake-1", accuracy: Platt | None = None
) -> Path:
    calibration = Calibration(
        curve=curve,
        model_version=model_version,
        n=100,
        fitted_at=datetime.now(tz=UTC),
        ece_before=0.2,
        ece_after=0.02,
        accuracy=accuracy,
    )
    file = folder / "calibration.json"
    file.write_text(calibration.model_dump_json())
    return file


def samples(count: int) -> tuple[Scores, Scores]:
    """Return scores far too sure of themselves, and whether each text is right."""
    random = np.random.default_rng(7)
    logits = random.normal(1, 2, count)
    is_right = random.random(count) < 1 / (1 + np.exp(-logits))
    return 1 / (1 + np.exp(-3 * logits)), is_right.astype(np.float64)


def test_score_is_calibrated_and_the_version_names_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, Temperature(temperature=2), accuracy=Platt(slope=1, intercept=1))

    engine = calibrated(FakeEngine(), file)

    digest = sha256(file.read_bytes()).hexdigest()[:8]
    assert engine.model_version == f"fake-1+cal-{digest}"
    assert (engine.name, engine.best_batch, engine.least_width) == ("fake", 8, 320)
    halved = engine.read(LINE)
    assert halved.text == "one"
    assert halved.score == pytest.approx(0.75)  # logit(0.9) / 2
    assert halved.expected_cer == pytest.approx(1 / (1 + 9 * math.e))
    assert engine.read_many([LINE, LINE]) == [halved, EngineReading("", 0)]


def test_isotonic_curve_is_straight_between_its_points(tmp_path: Path) -> None:
    curve = Isotonic(scores=(0.2, 0.6, 1.0), probabilities=(0.1, 0.1, 0.5))

    assert [curve(score) for score in (0.0, 0.4, 0.8, 1.0)] == pytest.approx([0.1, 0.1, 0.3, 0.5])
    assert calibrated(FakeEngine(), write(tmp_path, curve)).read(LINE).score == pytest.approx(0.4)


@given(curve=curves, one=scores, other=scores, characters=st.integers(0, 100))
def test_calibration_gives_probabilities_in_the_same_order(
    curve: Curve, one: float, other: float, characters: int
) -> None:
    low, high = sorted((one, other))

    assert 0 <= curve(low, characters) <= curve(high, characters) <= 1


@given(curve=lines, score=scores, characters=st.integers(0, 100))
def test_score_of_a_probability_has_that_probability(
    curve: Temperature | Platt | Length, score: float, characters: int
) -> None:
    probability = curve(score, characters)

    assert curve(curve.inverse(probability, characters), characters) == pytest.approx(
        probability, rel=1e-3, abs=1e-6
    )


def test_long_texts_need_higher_scores() -> None:
    curve = Length(slope=0.5, intercept=-1, power=1)

    assert curve(0.99, 2) > 1.3 * curve(0.99, 100) > 0


def test_calibration_of_another_model_version_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, Temperature(temperature=2), model_version="fake-0")

    with pytest.raises(CalibrationError, match=r"fitted to fake-0, and the model is fake-1"):
        calibrated(FakeEngine(), file)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"curve": {"method": "guess"}}, "curve"),
        ({"curve": {"method": "temperature", "temperature": 0}}, "temperature"),
        (
            {"curve": {"method": "isotonic", "scores": [0.5, 0.1], "probabilities": [0, 1]}},
            "must not fall",
        ),
        (
            {"curve": {"method": "isotonic", "scores": [0.5], "probabilities": [0, 1]}},
            "one probability",
        ),
        ({"model": "other"}, "model"),
        ({"n": 0}, "n "),
    ],
)
def test_file_that_is_no_calibration_is_refused_with_the_reason(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    file = write(tmp_path, Temperature(temperature=2))
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))

    with pytest.raises(CalibrationError, match=reason):
        calibrated(FakeEngine(), file)


def test_missing_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"none.json can't be read: No such file"):
        calibrated(FakeEngine(), tmp_path / "none.json")


def test_setting_calibrates_the_engine_that_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_RUNTIME", "onnxruntime")
    monkeypatch.setenv("OCR_CALIBRATION", "none")
    plain = load_engine("rapidocr")
    assert "+cal-" not in plain.model_version
    file = write(tmp_path, Temperature(temperature=2), model_version=plain.model_version)
    monkeypatch.setenv("OCR_CALIBRATION", str(file))

    assert load_engine("rapidocr").model_version.startswith(f"{plain.model_version}+cal-")


def test_packaged_calibration_is_served_until_it_is_refreshed(models: Path) -> None:
    *_, packaged = known_calibrations(models)
    version, wanted = packaged.model_version, wanted_model("rapidocr")
    assert load_engine("rapidocr").model_version == f"{version}+cal-{packaged.hash}"

    fitted = packaged.model_copy(update={"curve": Temperature(temperature=2)})
    add_calibrations(models, [fitted, fitted.model_copy(update={"model_version": "other"})])
    assert load_engine("rapidocr").model_version == f"{version}+cal-{fitted.hash}"
    assert wanted_model("rapidocr") != wanted

    known = json.loads((models / FILE).read_text())
    (models / FILE).write_text(json.dumps(known | {"provenance": "lines of May"}))
    add_calibrations(models, [packaged])
    assert json.loads((models / FILE).read_text())["provenance"] == "lines of May"

    (models / FILE).write_text("{")
    with pytest.raises(CalibrationError, match="can't be read"):
        load_engine("rapidocr")


@pytest.mark.parametrize(
    "other",
    [
        "ppocrv6-small-latin@rapidocr-3.10.0",  # before runtime and precision were named
        "ppocrv6-small-latin@rapidocr-3.10.0+openvino-f32",
        "ppocrv6-small-latin@rapidocr-3.10.0+openvino-2026.4.1-bf16-amx",
    ],
)
def test_calibration_of_another_runtime_or_precision_is_refused(tmp_path: Path, other: str) -> None:
    file = write(tmp_path, Temperature(temperature=2), model_version=other)
    engine = FakeEngine(model_version="ppocrv6-small-latin@rapidocr-3.10.0+onnxruntime-f32")

    with pytest.raises(CalibrationError, match="fit another with docreco calibrate"):
        calibrated(engine, file)


def test_lengths_are_followed_where_they_matter() -> None:
    random = np.random.default_rng(17)
    given_scores, lengths = random.uniform(0.9, 0.999, 3000), random.integers(1, 60, 3000)
    is_right = (random.random(3000) < given_scores**lengths).astype(np.float64)
    best, blind = (fit_best(given_scores, is_right, each) for each in (lengths, None))

    assert isinstance(best.curve, Length)
    assert best.brier_after < 0.9 * blind.brier_after


def test_temperature_that_made_scores_too_sure_is_found() -> None:
    fitted = fit("temperature", *samples(20_000))

    assert isinstance(fitted.curve, Temperature)
    assert fitted.curve.temperature == pytest.approx(3, rel=0.1)


def test_one_large_source_is_divided_among_the_folds() -> None:
    scores, is_right = samples(500)
    groups = ["book"] * 496 + ["a", "b", "c", "d"]
    by_group, by_any = (
        fit("temperature", scores, is_right, groups=each).brier_after for each in (groups, None)
    )

    assert by_group == by_any


@pytest.mark.parametrize("method", METHODS)
def test_scores_are_much_closer_to_the_truth_after_a_fit(method: MethodName) -> None:
    fitted = fit(method, *samples(2000))
    fresh, is_right = samples(20_000)

    changed = np.array([fitted.curve(score) for score in fresh.tolist()])

    assert fitted.ece_before > 0.1
    assert fitted.ece_after < 0.04
    assert expected_calibration_error(changed, is_right) < 0.04


def handwriting(count: int) -> tuple[Scores, Scores]:
    """Return scores like those of handwriting: high, and hardly any text is right below 0.9."""
    random = np.random.default_rng(13)
    scores = np.clip(1 - random.exponential(0.12, count), 0.01, 0.999)
    chance = np.where(scores > 0.9, 6 * (scores - 0.9), 0.02 * scores)
    return scores, (random.random(count) < chance).astype(np.float64)


def test_temperature_at_its_bound_is_told_and_not_chosen() -> None:
    samples_of_it = handwriting(4000)

    assert fit("temperature", *samples_of_it).is_at_bound
    best = fit_best(*samples_of_it)
    assert not best.is_at_bound
    assert best.is_better
    assert best.ece_after < 0.05


def test_calibration_corrects_scores_that_are_far_too_high() -> None:
    samples_of_it = handwriting(4000)

    for each in bins_of(*samples_of_it, fit_best(*samples_of_it)):
        if each.n >= 100:
            assert each.calibrated == pytest.approx(each.right, abs=0.1)


def test_few_samples_are_not_followed_by_a_curve_of_any_form() -> None:
    assert not isinstance(fit_best(*handwriting(200)).curve, Isotonic)


def test_fit_to_scores_that_say_nothing_is_no_better() -> None:
    random = np.random.default_rng(3)
    is_right = (random.random(400) < 0.5).astype(np.float64)

    assert not fit("temperature", np.full(400, 0.5), is_right).is_better


def test_error_after_a_fit_is_that_of_scores_it_has_not_seen() -> None:
    """Pure noise: a curve that follows its own samples would look perfect."""
    random = np.random.default_rng(5)
    noise, is_right = random.random(60), (random.random(60) < 0.5).astype(np.float64)

    fitted = fit("isotonic", noise, is_right)
    own = np.array([fitted.curve(score) for score in noise.tolist()])

    assert fitted.ece_after > expected_calibration_error(own, is_right)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("is_right", [0.0, 1.0])
def test_all_right_or_all_wrong_samples_still_give_a_curve(
    method: MethodName, is_right: float
) -> None:
    fitted = fit(method, np.linspace(0.5, 0.99, 60), np.full(60, is_right))

    assert 0 <= fitted.curve(0.7) <= 1


def test_expected_error_rate_is_that_of_texts_of_a_score() -> None:
    random = np.random.default_rng(7)
    given_scores = random.uniform(0.5, 1, 4000)

    line = fit_accuracy(given_scores, random.binomial(30, given_scores**2) / 30)

    for score in (0.6, 0.75, 0.9):
        assert line(score) == pytest.approx(score**2, abs=0.03)


def test_calibration_error_is_the_mean_distance_over_bins() -> None:
    given_scores = np.array([0.95, 0.95, 0.15, 1.0])
    is_right = np.array([1.0, 0.0, 0.0, 1.0])

    # bin of 0.95, 0.95 and 1.0: |2.9 - 2|, bin of 0.15: 0.15; over 4 samples
    assert expected_calibration_error(given_scores, is_right) == pytest.approx(1.05 / 4)
