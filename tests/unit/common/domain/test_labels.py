"""Label and split of an image."""

import hashlib
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.domain.accuracy import similarity
from services.common.domain.image import ImageDocument
from services.common.domain.labels import Exclusion, Label, Origin, agreement, label_of
from services.datasets.copies import decide
from services.datasets.splits import parse_split
from services.quality.annotated import AnnotatedImage
from tests import factories
from tests.support.datasets import annotation, prediction


def document(**fields: Any) -> ImageDocument:
    return factories.document(**{"prediction": prediction("industrie"), **fields})


def label(of: ImageDocument, *, only_annotated: bool = False) -> Label | Exclusion:
    return label_of(of, only_annotated=only_annotated, min_agreement=0.9)


def test_annotation_is_the_label_whatever_was_read() -> None:
    said = document(annotation=annotation(" l'e\u0301té  "))
    assert label(said) == Label("l'été", Origin.ANNOTATION, None)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"annotation": annotation("", "unreadable")}, Exclusion.UNREADABLE),
        ({"annotation": annotation("", "not_a_line")}, Exclusion.NOT_A_LINE),
        ({"annotation": annotation("a\0b")}, Exclusion.INVALID_TEXT),
        ({"prediction": prediction("a", score=0.89)}, Exclusion.LOW_AGREEMENT),
        ({"prediction": prediction("  ")}, Exclusion.NO_TEXT),
        ({"status": "rejected", "prediction": None}, Exclusion.NOT_READ),
        ({"status": "rejected", "annotation": annotation("a")}, Exclusion.NOT_READ),
    ],
)
def test_document_without_a_label_has_a_reason(fields: dict[str, Any], reason: Exclusion) -> None:
    assert label(document(**fields)) is reason


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"how": "accepted"}, Exclusion.NOT_CORRECTED),
        ({}, Exclusion.NOT_CORRECTED),
        ({"how": "corrected"}, None),
        ({"how": "transcribed"}, None),
        ({"how": "given"}, None),
        ({"by": "batch:of an earlier version"}, None),
        (None, Exclusion.NOT_ANNOTATED),
    ],
)
def test_accepted_prediction_is_no_corrected_text(
    said: dict[str, str] | None, reason: Exclusion | None
) -> None:
    of = document(annotation=None if said is None else annotation("a") | said)
    found = label_of(of, only_annotated=False, min_agreement=0, only_corrected=True)
    assert found == (reason or Label("a", Origin.ANNOTATION, None))


def test_prediction_is_the_label_unless_only_annotations_count() -> None:
    assert label(document()) == Label("industrie", Origin.PREDICTION, 0.95)
    assert label(document(), only_annotated=True) is Exclusion.NOT_ANNOTATED


def test_agreement_is_the_score_or_less_if_versions_differ() -> None:
    history = [
        prediction("industry", version="fake-0"),
        prediction("nothing alike", version="fake-1"),
    ]
    assert agreement(document()) == 0.95
    assert agreement(document(history=history)) == pytest.approx(1 - 2 / 9)
    assert agreement(document(history=history[1:])) == 0.95


def test_last_reading_of_a_version_counts() -> None:
    history = [
        prediction("something else", version="fake-0"),
        prediction("industrie", version="fake-0"),
    ]
    assert agreement(document(history=history)) == 0.95


@pytest.mark.parametrize(
    ("one", "other", "alike"), [("", "", 1), ("a", "", 0), ("", "a", 0), ("abcd", "abc", 0.75)]
)
def test_similarity(one: str, other: str, alike: float) -> None:
    assert similarity(one, other) == alike


def test_shares_are_kept_and_nothing_moves_as_data_grows() -> None:
    split = parse_split("80/10/10")
    hashes = [hashlib.sha256(f"{n}".encode()).hexdigest() for n in range(10_000)]
    counts = Counter(split.place(each) for each in hashes)
    assert counts["train"] == pytest.approx(8000, abs=150)
    assert counts["test"] == pytest.approx(1000, abs=120)


def test_place_of_an_image_is_the_same_in_every_release() -> None:
    split = parse_split("50/25/25")
    places = [split.place(str(number)) for number in range(8)]
    assert places == ["test", "train", "train", "validation", *["train"] * 4]


@given(st.lists(st.integers(0, 100), min_size=1, max_size=3).filter(lambda shares: shares[0] > 0))
def test_every_image_has_a_place(shares: list[int]) -> None:
    split = parse_split("/".join(map(str, shares)))
    assert split.place("a") in ("train", "validation", "test")[: len(shares)]


@pytest.mark.parametrize("text", ["", "80/10/10/0", "0/10", "-1/2", "a", "1.5/2", "80/"])
def test_split_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a split|train on"):
        parse_split(text)


GIVEN = annotation("by a list") | {"by": "batch:b1"}
TYPED, REFUSED = annotation("by a person"), annotation("", "unreadable")


@pytest.mark.parametrize(
    ("annotations", "text", "reason"),
    [
        ((GIVEN, TYPED), "by a person", None),
        ((TYPED, GIVEN), "by a person", None),
        ((GIVEN, REFUSED), None, Exclusion.UNREADABLE),
        ((GIVEN, None), "by a list", None),
        ((GIVEN, REFUSED, TYPED), "by a person", None),
    ],
)
def test_person_overrules_the_list_of_another_copy(
    annotations: tuple[dict[str, Any] | None, ...], text: str | None, reason: Exclusion | None
) -> None:
    copies = [document(annotation=each) for each in annotations]

    decided = decide(copies, only_annotated=False, min_agreement=0)

    assert decided is reason or (isinstance(decided, tuple) and decided[1].text == text)
    assert AnnotatedImage.of(copies).reference == text
