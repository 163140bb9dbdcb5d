"""Normalisation of texts, and annotations of documents."""

import re
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.domain.annotations import (
    MAX_ANNOTATION_LENGTH,
    NORMALISATION,
    UnacceptableAnnotationError,
    collapse,
    given_annotation,
    normalise,
    to_annotation,
)
from services.common.domain.records import Quality

IDEOGRAPHS = {*range(0xF900, 0xFB00), *range(0x2F800, 0x2FA20)}
TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=200)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  two \t words\r\n", "two words"),
        ("e\u0301tude", "étude"),
        ("no-break\u00a0space\u2003and\u3000wide", "no-break space and wide"),
        ("line\u2028end", "line end"),
        ("ﬁn № 1½", "ﬁn № 1½"),
        ("क्\u200dष", "क्\u200dष"),
        ("\ufa19\u793e", "\ufa19\u793e"),
        ("\ufa46 e\u0301\U0002f800", "\ufa46 é\U0002f800"),
        ("\u212b\u2126", "\u00c5\u03a9"),
        ("\ufeff a\ufeff b", "a b"),
        ("", ""),
    ],
)
def test_text_has_one_form(text: str, normal: str) -> None:
    assert normalise(text) == normal


@pytest.mark.parametrize("text", ["nul\0", "bell\a", "esc\x1b[2J", "\x1cfield", "lone\ud800"])
def test_control_characters_are_refused(text: str) -> None:
    with pytest.raises(UnacceptableAnnotationError, match="control character: U\\+"):
        normalise(text)


def test_length_is_bounded() -> None:
    assert normalise("a" * MAX_ANNOTATION_LENGTH)
    with pytest.raises(UnacceptableAnnotationError, match="more than"):
        normalise("a" * (MAX_ANNOTATION_LENGTH + 1))


@given(TEXTS)
def test_normal_form_stays_as_it_is(text: str) -> None:
    normal = normalise(text)
    assert normalise(normal) == normal
    assert collapse(text) == normal
    assert normal == " ".join(normal.split())
    assert unicodedata.normalize("NFC", normal) == unicodedata.normalize("NFC", collapse(text))


@given(
    st.text(st.sampled_from("a e\u0301\u0327\ufa19\uf900\U0002fa1f\u795e\u1100\u1161"), max_size=12)
)
def test_ideographs_stay_and_all_else_is_composed(text: str) -> None:
    kept = [each for each in text if ord(each) in IDEOGRAPHS]
    normal = normalise(text)
    assert normalise(normal) == normal
    assert [each for each in normal if ord(each) in IDEOGRAPHS] == kept
    for part in re.split("[\uf900-\ufaff\U0002f800-\U0002fa1f]", normal):
        assert unicodedata.is_normalized("NFC", part)


def test_given_annotation_has_the_form_and_its_version() -> None:
    given_one = given_annotation(
        " \ufa19\t e\u0301 ", batch="b1", at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    assert (given_one.text, given_one.by) == ("\ufa19 é", "batch:b1")
    assert given_one.normalisation == NORMALISATION == 2


@pytest.mark.parametrize(
    ("text", "quality", "by"),
    [
        ("", "ok", "ada"),
        (None, None, "ada"),
        ("a", "good", "ada"),
        ("a", "ok", ""),
        ("a", "ok", "batch:1"),
    ],
)
def test_annotation_without_sense_is_refused(
    text: str | None, quality: str | None, by: str
) -> None:
    with pytest.raises(UnacceptableAnnotationError):
        to_annotation(text, quality, by=by)


def test_unreadable_image_needs_no_text() -> None:
    assert to_annotation(None, " Unreadable ", by="ada").quality is Quality.UNREADABLE
