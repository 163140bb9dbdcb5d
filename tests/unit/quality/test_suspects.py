"""Judgement of annotations: reasons why one is suspect, and norms."""

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.domain.annotations import AnnotationOutcome, to_annotation
from services.common.domain.image import ImageDocument
from services.common.domain.records import Confirmation, Source
from services.quality.suspect_search import Suspects
from services.quality.suspects import FEWEST, Norms, Reason
from tests.factories import NOW, annotation, document, prediction

WORDS = ["six", "novembre", "au", "matin", "nous", "avons", "lu", "une", "ligne", "plus", "longue"]
LETTERS = "abcdefghijklmnopqrstuvwxyzàâçèéêîôùûœÀÉ"
FRENCH = st.text(f"{LETTERS} '.,;:!«»-\u2019\u2014", min_size=1).map(str.strip).filter(bool)
CONFIRMED = Confirmation(by="bob", at=NOW)


def image(text: str, read: str | None = None, **fields: Any) -> ImageDocument:
    """Return an annotated image, as wide as its prediction needs."""
    read = text if read is None else read
    by = {"by": fields.pop("by", "ada"), "confirmed": fields.pop("confirmed", None)}
    score, size = fields.pop("score", 0.9), {"width": 20 * max(1, len(read)), "height": 40}
    said = {"annotation": annotation(text, **by), "prediction": prediction(read, score=score)}
    return document(**said | size | fields)


CHANCE = Random(3)  # noqa: S311  nothing secret
LINES = [image(" ".join(CHANCE.choices(WORDS, k=6))) for _ in range(40)]
NORMS = Norms.of(LINES)


@pytest.mark.parametrize(
    ("suspect", "reason"),
    [
        (image("Un tout autre texte, sans rapport", "1916 le 6 novembre au matin"), "contradicted"),
        (image("le 6 novembre", "le 6 novembre 1916, au matin"), "cut"),
        (image("1916, au matin", "le 6 novembre 1916, au matin"), "cut"),
        (image("the whole of a long line of text", width=60, height=40), "length"),
        (image("short", width=4000, height=40), "length"),
        (image("a lime at xome lengkh wis rexd", "a line of some length was read"), "differs"),
        (image("l'Ã©tÃ©"), "mojibake"),
        (image("caf\ufffd"), "mojibake"),
        (image("un ?t? chaud"), "mojibake"),
        (image("un caf?", "un café"), "mojibake"),
        (image("&eacute;t&#233;"), "mojibake"),
    ],
)
def test_suspect_has_its_reason(suspect: ImageDocument, reason: str) -> None:
    assert reason in NORMS.reasons(suspect)


@pytest.mark.parametrize(
    "right",
    [
        *LINES[:3],
        image("A & B; où ? Là, « CAFÉ»"),
        image("Un tout autre texte, sans rapport", "1916 le 6 novembre, tôt au matin", score=0.1),
        image("", annotation=to_annotation("", "unreadable", by="ada")),
        image("any", annotation=None),
    ],
)
def test_right_text_is_not_suspect(right: ImageDocument) -> None:
    assert NORMS.reasons(right) == []


@given(FRENCH)
def test_text_in_its_own_encoding_is_no_mojibake(text: str) -> None:
    assert Reason.MOJIBAKE not in Norms().reasons(image(text))


@given(FRENCH.filter(lambda text: any(each in LETTERS[26:] for each in text)))
def test_accents_in_another_encoding_are_mojibake(text: str) -> None:
    wrong = text.encode().decode("cp1252", errors="replace")
    assert Reason.MOJIBAKE in Norms().reasons(image(wrong))


@given(FRENCH, FRENCH, st.integers(1, 5000))
def test_confirmed_annotation_is_never_suspect(text: str, read: str, width: int) -> None:
    assert NORMS.reasons(image(text, read, width=width, confirmed=CONFIRMED)) == []


def test_few_images_are_no_norm() -> None:
    wrong = image("Un tout autre texte, sans rapport", "1916 le 6 novembre au matin")
    assert Norms.of(LINES[: FEWEST - 1]).reasons(wrong) == []
    assert Norms.of(LINES[:FEWEST]).reasons(wrong) != []


def test_collection_is_compared_with_itself() -> None:
    wide = [
        each.having(sources=(Source(collection="wide"),), width=5000) for each in LINES[:FEWEST]
    ]
    norms = Norms.of([*LINES, *LINES, *wide])
    assert norms.reasons(wide[0]) == []
    assert norms.reasons(wide[0].having(sources=())) == [Reason.LENGTH]


@pytest.mark.parametrize(
    ("earlier", "by", "is_suspect"),
    [
        ([annotation("one", by="bob")], "ada", True),
        ([annotation("two", by="bob")], "ada", False),
        ([annotation("one")], "ada", False),
        ([annotation("one", by="bob", undone_at=NOW)], "ada", False),
        ([annotation("one", by="batch:7")], "ada", False),
        ([annotation("one", by="batch:7")], "batch:8", True),
        ([annotation("one", by="bob"), annotation("two", by="bob")], "ada", False),
    ],
)
def test_texts_of_two_annotators_are_compared(
    earlier: list[Any], by: str, *, is_suspect: bool
) -> None:
    reasons = Norms().reasons(image("two", by=by, annotation_history=earlier))
    assert reasons == [Reason.ANNOTATORS_DIFFER] * is_suspect


def test_most_suspect_are_kept_and_all_are_counted() -> None:
    suspects = Suspects(NORMS, most=2)
    wrong = ["caf\ufffd", "fin", "un ?t? chaud", "right"]
    for number, text in enumerate(wrong):
        suspects.add(
            image(text, width=4000 if text == "fin" else 20 * len(text), _id=f"raw/{number}")
        )
    assert [each.reasons[0] for each in suspects.found] == [Reason.MOJIBAKE] * 2
    assert (suspects.annotated, suspects.total) == (4, 3)
    assert suspects.counts == {Reason.MOJIBAKE: 2, Reason.LENGTH: 1}


def test_confirmation_changes_nothing_else_and_is_taken_back() -> None:
    before = image("given", by="batch:7")
    said = to_annotation("given", by="bob", at=NOW).having(confirmed=CONFIRMED)

    code, after = before.annotated(said)

    assert code is AnnotationOutcome.WRITTEN
    assert after == before.having(annotation=annotation("given", by="batch:7", confirmed=CONFIRMED))
    assert after.annotation is not None
    assert not after.annotation.is_given
    assert after.annotated(said) == (AnnotationOutcome.UNCHANGED, after)
    code_of_undo, left = after.reverted(NOW, by="bob", at=NOW)
    assert (code_of_undo, left.annotation) == (
        True,
        annotation("given", by="batch:7", confirmed=None),
    )
