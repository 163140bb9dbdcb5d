"""Annotations of a document, and their reversal."""

from typing import Any

import pytest

from services.common.domain.annotations import AnnotationOutcome, to_annotation
from services.common.domain.image import ImageDocument
from services.common.domain.records import How, Source
from tests.factories import NOW, annotation, document, prediction

GIVEN = to_annotation("ét é", by="ada")


@pytest.mark.parametrize(
    ("before", "outcome"),
    [
        (ImageDocument.absent("raw/a.png"), AnnotationOutcome.UNKNOWN),
        (document(etag="e", status="removed"), AnnotationOutcome.UNKNOWN),
        (document(etag="other"), AnnotationOutcome.UNKNOWN),
        (document(etag="e", annotation=None), AnnotationOutcome.WRITTEN),
        (document(etag="e", annotation={"text": " e\u0301t  é "}), AnnotationOutcome.UNCHANGED),
        (
            document(etag="e", annotation={"text": "ét é", "quality": "ok"}),
            AnnotationOutcome.UNCHANGED,
        ),
        (
            document(etag="e", annotation={"text": "ét é", "quality": "not_a_line"}),
            AnnotationOutcome.CONFLICT,
        ),
        (
            document(etag="e", annotation={"text": "other", "quality": "ok"}),
            AnnotationOutcome.CONFLICT,
        ),
    ],
)
def test_annotation_meets_a_document(before: ImageDocument, outcome: AnnotationOutcome) -> None:
    code, after = before.annotated(GIVEN, etag="e")

    assert code is outcome
    assert after == (
        before.having(annotation=GIVEN) if code is AnnotationOutcome.WRITTEN else before
    )


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("a+cal-0", "score 0.230"),
        ("a", "score 0.230, not calibrated"),
        (None, "score 0.230, not calibrated"),
    ],
)
def test_score_that_is_no_probability_says_so(version: str | None, words: str) -> None:
    assert str(prediction(score=0.23, model_version=version).score_in_words) == words


@pytest.mark.parametrize(
    ("shown", "typed", "how"),
    [
        (["now"], "now", How.ACCEPTED),
        (["now"], "NOW", How.CORRECTED),
        (["a b\r\n"], "a b", How.ACCEPTED),
        (["earlier"], "earlier", How.ACCEPTED),
        (["earlier"], "now", How.CORRECTED),
        (["", "now"], "now", How.ACCEPTED),
        ([""], "anything", How.TRANSCRIBED),
        ([], "now", How.TRANSCRIBED),
        (["invented"], "now", None),
        (None, "now", None),
    ],
)
def test_way_to_a_text_is_judged_by_what_was_shown(
    shown: list[str] | None, typed: str, how: How | None
) -> None:
    readings = [prediction(text) for text in ("earlier", "a\x01 b\n", "")]
    before = document(prediction=prediction("now"), history=readings)

    after = before.annotated(to_annotation(typed, by="ada"), shown=shown).document

    assert after.annotation is not None
    assert after.annotation.how is how


def test_judgement_without_a_text_has_no_way_to_it() -> None:
    said = to_annotation("", "unreadable", by="ada")
    after = document(prediction=prediction("")).annotated(said, shown=[""]).document
    assert after.annotation == said


@pytest.mark.parametrize(("by", "how"), [("batch:7", How.GIVEN), ("ada", None)])
def test_earlier_versions_annotation_is_given_or_unknown(by: str, how: How | None) -> None:
    assert annotation("a", by=by).known_how is how


def test_conflict_is_written_over_where_asked() -> None:
    before = document(annotation={"text": "other"})

    code, after = before.annotated(GIVEN, overwrite=True)

    assert (code, after.annotation) == (AnnotationOutcome.WRITTEN, GIVEN)
    assert after.annotation_history == (before.annotation,)


def texts(reverted: ImageDocument) -> tuple[Any, list[str]]:
    return reverted.annotation, [each.text for each in reverted.annotation_history]


def test_first_annotation_that_is_taken_back_leaves_none() -> None:
    code, left = document(annotation=annotation("a")).reverted(NOW, by="ada", at=NOW)

    assert code
    assert texts(left) == (None, ["a"])
    assert left.has_reverted(by="ada", at=NOW)
    assert left.reverted(NOW, by="ada") == (False, left)


def test_annotation_of_another_person_is_not_reverted() -> None:
    before = document(annotation=annotation("a"))
    assert before.reverted(NOW, by="bob") == (False, before)


def test_what_was_taken_back_before_does_not_come_back() -> None:
    history = [annotation("a"), annotation("b", undone_at=NOW)]
    before = document(annotation=annotation("c"), annotation_history=history)

    left = before.reverted(NOW, by="ada").document

    assert texts(left) == (annotation("a"), ["b", "c"])
    assert texts(left.reverted(NOW, by="ada").document) == (None, ["b", "c", "a"])


def test_what_was_said_of_other_bytes_is_not_said_of_these() -> None:
    history = [annotation("of other bytes", bytes_replaced_at=NOW)]
    before = document(annotation=annotation("a"), annotation_history=history)

    assert texts(before.reverted(NOW, by="ada").document) == (None, ["of other bytes", "a"])


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://ada:secret@H.example:8443/a.png", "h.example:8443"),
        ("https://h.example/a.png", "h.example"),
        ("http://[::1]:80/", "[::1]:80"),
        ("http://[bad/", None),
        ("a.png", None),
        (None, None),
    ],
)
def test_host_of_a_source_has_its_port(url: str | None, host: str | None) -> None:
    assert Source(url=url).host == host
