"""Order of images to annotate next."""

from services.datasets.suggestion import Candidate, order


def chosen(*candidates: Candidate, most: int = 9, **labels: int) -> str:
    return "".join(each.candidate.image for each in order(candidates, labels, most=most))


def candidate(
    image: str, score: float | None, source: str = "hand", disagreement: float = 0.0
) -> Candidate:
    return Candidate(image, source, score, disagreement)


def test_lowest_score_of_a_source_is_first_and_no_text_average() -> None:
    lines = (candidate("a", 0.9), candidate("b", None), candidate("c", 0.2), candidate("d", 0.8))

    assert chosen(*lines) == "cdba"
    assert chosen(*lines, most=2) == "cd"


def test_disagreement_of_versions_counts_beside_the_score() -> None:
    sure, unsure = candidate("a", 0.9, disagreement=0.6), candidate("b", 0.8)

    assert chosen(unsure, sure) == "ab"


def test_each_label_of_a_source_makes_the_others_worth_less() -> None:
    bad = [candidate(name, 0.1 + number / 100, "bad") for number, name in enumerate("abc")]
    good = [candidate(name, 0.8 + number / 100, "good") for number, name in enumerate("xyz")]

    assert chosen(*bad, *good) == "abxcyz"
    assert chosen(*bad, *good, bad=100).startswith("xy")


def test_scale_of_scores_does_not_matter() -> None:
    for scale in (0.01, 1.0):
        lines = [candidate(name, scale * n / 10, "ab"[n % 2]) for n, name in enumerate("stuvwxyz")]
        assert chosen(*lines) == "stuvwxyz"
    assert chosen() == ""
