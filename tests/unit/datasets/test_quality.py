"""Figures of models: what they are worth, and that chance is not taken for a difference."""

import random
from dataclasses import replace

import pytest

from services.cli.evaluate_page import evaluation_page
from services.common.domain.accuracy import character_errors, word_errors
from services.common.domain.records import Prediction
from services.datasets.evaluation import EvaluatedReading, ModelReading, stored_reading
from services.datasets.quality import compare, quality_of
from services.quality.estimates import Estimate, share
from services.quality.tally import Tally, add_to_each, length_of
from tests import factories
from tests.support.datasets import prediction


def sample(
    reference: str, hypothesis: str, *, score: float = 0.9, host: str = "a.example"
) -> EvaluatedReading:
    texts = (reference, hypothesis)
    wrong_words, words = word_errors(reference=reference, hypothesis=hypothesis)
    errors = character_errors(reference=reference, hypothesis=hypothesis).errors
    return EvaluatedReading(f"raw/{reference}", host, *texts, score, errors, wrong_words, words)


def samples(count: int, *, wrong: float, seed: int) -> list[EvaluatedReading]:
    """Return as many, of which about a share has one wrong character of eight."""
    draw = random.Random(seed)  # noqa: S311
    return [
        sample(
            f"{number:08}", f"{number:08}"[:-1] + "x" if draw.random() < wrong else f"{number:08}"
        )
        for number in range(count)
    ]


def test_rates_are_edits_over_lengths() -> None:
    quality = quality_of([sample("one two", "one twp"), sample("abc", "abc")])
    assert quality.cer.value == pytest.approx(1 / 10)
    assert quality.wer.value == pytest.approx(1 / 3)
    assert quality.exact.value == 0.5
    assert quality.worst[0].hypothesis == "one twp"


def test_interval_holds_the_truth_and_is_the_same_every_time() -> None:
    quality = quality_of(samples(400, wrong=0.2, seed=1))
    assert quality.exact.low is not None
    assert quality.exact.high is not None
    assert quality.exact.low < 0.8 < quality.exact.high
    # of a share p among n, 95 % lie within 1.96 * sqrt(p (1 - p) / n)
    assert quality.exact.high - quality.exact.low == pytest.approx(0.078, abs=0.01)
    assert quality_of(samples(400, wrong=0.2, seed=1)).exact == quality.exact


@pytest.mark.parametrize(("count", "wrong"), [(300, 0.2), (1000, 0.02)])
def test_interval_of_counts_is_near_that_of_resampling(count: int, wrong: float) -> None:
    drawn = samples(count, wrong=wrong, seed=3)
    resampled, tally = quality_of(drawn), Tally()
    for each in drawn:
        add_to_each([tally], Prediction(text=each.hypothesis, score=each.score), each.reference)
    for one, other in (
        (tally.error_estimate, resampled.cer),
        (tally.exact_estimate, resampled.exact),
    ):
        assert one is not None
        assert one.value == pytest.approx(other.value)
        assert other.low is not None
        assert other.high is not None
        width = other.high - other.low
        assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=width / 8)


@pytest.mark.parametrize(("count", "total"), [(0, 20), (20, 20), (1, 1)])
def test_interval_of_a_share_at_its_end_has_a_width(count: int, total: int) -> None:
    found = share(count, total)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 0.1
    assert share(0, 0) is None


def test_single_image_has_no_interval() -> None:
    assert quality_of([sample("a", "b")]).cer == Estimate(1.0, None, None)
    assert str(Estimate(0.5, None, None)) == "50.00%"


def test_calibration_error_is_the_distance_of_score_and_share() -> None:
    honest = [sample("a", "a", score=1.0)] * 5 + [sample("a", "b", score=0.0)] * 5
    vain = [sample("a", "b", score=0.95)] * 4
    assert quality_of(honest).calibration_error == 0
    assert quality_of(vain).calibration_error == pytest.approx(0.95)
    assert [each.images for each in quality_of(honest + vain).bins] == [5, 9]


def test_hosts_and_lengths_have_figures_of_their_own() -> None:
    quality = quality_of([sample("abcd", "abcx"), sample("a" * 50, "a" * 50, host="b.example")])
    assert quality.by_host["a.example"].cer == 0.25
    assert quality.by_host["b.example"].exact == 1
    assert list(quality.by_length) == ["1 to 4", "40 or more"]
    assert [length_of(length) for length in (4, 5, 39, 40)] == [
        *("1 to 4", "5 to 9", "20 to 39", "40 or more")
    ]


def test_texts_that_were_only_accepted_are_told_apart() -> None:
    accepted = replace(sample("abcd", "abcd"), how="accepted")
    quality = quality_of([accepted, replace(sample("efgh", "efgx"), how="corrected")])

    assert {how: each.cer for how, each in quality.by_how.items()} == {
        "accepted": 0,
        "corrected": 0.25,
    }
    assert quality.remark.startswith("1 of 2 texts are predictions that a person accepted")
    assert quality.remark.endswith("without them it is 25.0%.")
    assert quality_of([accepted]).remark.endswith("without them it is unknown.")
    assert quality_of([sample("a", "b")]).remark == ""


def test_better_model_is_told_from_chance() -> None:
    good, bad = samples(300, wrong=0.1, seed=1), samples(300, wrong=0.3, seed=2)
    compared = compare(good, bad)
    assert compared.cer.estimate.value == pytest.approx(-0.025, abs=0.01)
    assert compared.cer.estimate.high is not None
    assert compared.cer.estimate.high < 0
    assert compared.cer.p_value < 0.01
    assert compared.exact.p_value < 0.01


def test_equal_models_are_not_told_apart() -> None:
    one, other = samples(300, wrong=0.2, seed=3), samples(300, wrong=0.2, seed=4)
    assert compare(one, other).cer.p_value > 0.05
    assert compare(one, one).cer.p_value == 1


@pytest.mark.parametrize(
    ("groups", "images", "worse", "said"),
    [
        (1, 10, 10, "(10 lines, p = 0.00098)"),
        (60, 10, 10, "(10 lines, p = 0.00098, not enough lines to tell)"),
        (60, 40, 40, "(40 lines, p = 5e-05)"),
        (1, 10, 2, "(10 lines, p = 0.25, not enough lines to tell)"),
        (1, 10, 1, ""),
        (1, 9, 9, ""),
    ],
    ids=["evident", "of many", "of many, more lines", "unclear", "in the margin", "too few"],
)
def test_source_is_worse_only_by_evidence(groups: int, images: int, worse: int, said: str) -> None:
    old = [
        sample("12345678", "12345678", host=f"{group}.example")
        for group in range(groups)
        for _ in range(images)
    ]
    new = [sample("12345678", "1234567x", host="0.example") for _ in range(worse)]

    verdicts = compare([*new, *old[worse:]], old).verdicts[2:]
    rise = f"0.example: the character error rate rises from 0.0% to {worse / images / 8:.1%} "
    assert verdicts == ([rise + said] if said else [])


def test_stored_reading_is_the_last_of_its_version() -> None:
    document = factories.document(
        prediction=prediction("now", version="2"),
        history=[prediction("first", version="1"), prediction("later", version="1")],
    )
    assert stored_reading(document, None) == ModelReading("now", 0.95, "2")
    assert stored_reading(document, "1") == ModelReading("later", 0.95, "1")
    assert stored_reading(document, "3") is None


def test_page_shows_plots_and_escapes_untrusted_texts() -> None:
    evil = sample("<script>alert(1)</script>", "<b>", host="<i>.example")
    one = [*samples(20, wrong=0.2, seed=1), evil]
    other = [replace(each, score=0.5) for each in one]
    page = evaluation_page(
        {"<model>": quality_of(one), "fake-2": quality_of(other)}, compare(one, other)
    )
    assert page.count("<svg") == 3
    assert "fake-2: by how the text came about" in page
    assert "&lt;script&gt;alert(1)" in page
    for markup in ("<script", "<b>", "<i>", "<model>", "http://", "https://"):
        assert markup not in page.replace("http://www.w3.org", "").replace("http://pygal.org", "")
